"""Candidate lists with labels: what an earlier stage sent for each request, and what the user did with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from recascade.contracts.context import Context
from recascade.data.events import EventSequences, offsets_of, ranges
from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.data.reranking_inputs import RerankingInputs
from recascade.errors import DataError
from recascade.files import read_json, write_atomically, write_json

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
_TABLES = "tables.safetensors"
_IDS = "ids.parquet"
_FACTS = "lists.json"


@dataclass(frozen=True)
class RerankingLists:
    """Q lists with D candidates in all, packed; candidates stand in the order of the earlier stage.

    Attributes:
        inputs: what is known of items and users.
        ids: Q distinct strings, by which results of different methods are paired.
        users: int64 ``[Q]``, index of the user in ``events`` and ``inputs.user_profiles``; -1 for nobody known.
        times: int64 ``[Q]``, seconds; 0 where unknown.
        events: what users did, oldest first.
        history_ends: int64 ``[Q]``; list q knows ``events`` from its user's offset to here, nothing later.
        offsets: int64 ``[Q + 1]``; list q owns candidates ``offsets[q]`` to ``offsets[q + 1]``, at least one.
        items: int32 ``[D]``, index in the item vocabulary; -1 for unknown.
        scores: float32 ``[D]``, of the earlier stage; NaN where it gave none.
        labels: float32 ``[D]``, 0 or 1 for clicks, or a grade from 0 on.
        features: float32 ``[D, F2]`` that come with a candidate, not standardised; NaN or infinite where unknown.
        parts: int8 ``[Q]``, index in ``PARTS``.
        facts: how the lists were made (counts, settings), for the record.

    Raises:
        DataError: the arrays do not fit each other, a list is empty, a label is negative or not a number, a candidate
            stands twice in a list, or two lists have one id.
    """

    inputs: RerankingInputs
    ids: pl.Series
    users: NDArray[np.int64]
    times: NDArray[np.int64]
    events: EventSequences
    history_ends: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    labels: NDArray[np.float32]
    features: NDArray[np.float32]
    parts: NDArray[np.int8]
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 ``[Q]``, candidates per list."""
        return np.diff(self.offsets)

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """int64 ``[Q]``, known events per list, however many of them are read."""
        starts = self.events.offsets[np.maximum(self.users, 0)]
        return np.where(self.users >= 0, self.history_ends - starts, 0)

    @property
    def schema(self) -> RerankingSchema:
        """Sizes for a re-ranker's tables."""
        return self.inputs.schema

    def rows(self, part: Part) -> NDArray[np.int64]:
        """The lists of a part."""
        return np.flatnonzero(self.parts == PARTS.index(part))

    def context(self, rows: NDArray[np.int64]) -> Context:
        """The requests of the given lists, with the part of their histories that is read."""
        lengths = np.minimum(self.history_lengths[rows], self.inputs.history)
        index = ranges(self.history_ends[rows] - lengths, lengths)
        return Context(
            users=torch.from_numpy(self.users[rows]),
            items=torch.from_numpy(self.events.items[index].astype(np.int64)),
            timestamps=torch.from_numpy(self.events.timestamps[index].astype(np.int64)),
            offsets=torch.from_numpy(offsets_of(lengths)),
            now=torch.from_numpy(self.times[rows]),
        )

    def batch(self, rows: NDArray[np.int64]) -> RerankingBatch:
        """The given lists (int64 ``[B]``), with their labels."""
        lengths = self.lengths[rows]
        index = ranges(self.offsets[rows], lengths)
        owners = np.repeat(np.arange(len(rows)), lengths)
        places = index - np.repeat(self.offsets[rows], lengths)
        shape = (len(rows), int(lengths.max(initial=1)))

        def padded(values: NDArray[Any], empty: float) -> torch.Tensor:
            rectangle = np.full((*shape, *values.shape[1:]), empty, dtype=values.dtype)
            rectangle[owners, places] = values[index]
            return torch.from_numpy(rectangle)

        scores = np.where(np.isneginf(self.scores), np.nan, self.scores)
        batch = self.inputs.batch(
            self.context(rows),
            padded(self.items, -1).long(),
            padded(scores, -np.inf),
            padded(self.features, np.nan) if self.features.shape[1] else None,
        )
        return replace(batch, lists=torch.from_numpy(rows), labels=padded(self.labels, 0.0))

    def save(self, folder: Path) -> None:
        """Write everything into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = _tables(self) | {f"event-{name}": value for name, value in _tables(self.events).items()}
        tables |= {f"input-{name}": value for name, value in _tables(self.inputs).items()}
        with write_atomically(folder / _TABLES) as temporary:
            safetensors.numpy.save_file(
                {name: np.ascontiguousarray(value) for name, value in tables.items()}, temporary
            )
        with write_atomically(folder / _IDS) as temporary:
            self.ids.rename("id").to_frame().write_parquet(temporary)
        sizes = {
            "field_sizes": list(self.inputs.field_sizes),
            "profile_sizes": list(self.inputs.profile_sizes),
            "candidates": self.inputs.candidates,
            "history": self.inputs.history,
        }
        write_json(folder / _FACTS, {"format": 1, "sizes": sizes, "facts": dict(self.facts)})

    @classmethod
    def load(cls, folder: Path) -> RerankingLists:
        """Read what ``save`` wrote.

        Raises:
            DataError: a file is missing, damaged or of another format.
        """
        stored = read_json(folder / _FACTS)
        if not isinstance(stored, dict) or stored.get("format") != 1:
            raise DataError(f"{folder} holds no lists of a format that this version reads; make them again.")
        try:
            tables = safetensors.numpy.load_file(folder / _TABLES)
            ids = pl.read_parquet(folder / _IDS)["id"]
        except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
            raise DataError(f"The lists in {folder} are damaged ({error}); make them again.") from error
        sizes = stored["sizes"]
        inputs = RerankingInputs(
            **_named(tables, "input-"),
            field_sizes=tuple(sizes["field_sizes"]),
            profile_sizes=tuple(sizes["profile_sizes"]),
            candidates=sizes["candidates"],
            history=sizes["history"],
        )
        own = {name: value for name, value in tables.items() if "-" not in name}
        return cls(
            inputs=inputs, ids=ids, events=EventSequences(**_named(tables, "event-")), facts=stored["facts"], **own
        )


def _tables(holder: Any) -> dict[str, NDArray[Any]]:
    """The arrays among a dataclass's fields, by name."""
    values = {field.name: getattr(holder, field.name) for field in fields(holder)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _named(tables: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tables.items() if name.startswith(prefix)}


def _check(lists: RerankingLists) -> None:
    count, candidates = len(lists.parts), len(lists.items)
    lengths = {name: len(getattr(lists, name)) for name in ("ids", "users", "times", "history_ends", "parts")}
    lengths |= {"offsets": len(lists.offsets) - 1}
    wrong = [name for name, length in lengths.items() if length != count]
    wrong += [name for name in ("scores", "labels", "features") if len(getattr(lists, name)) != candidates]
    if wrong or int(lists.offsets[-1]) != candidates:
        raise DataError(
            f"{count} lists of {candidates} candidates do not fit the length of {', '.join(wrong or ['items'])}."
        )
    if lists.ids.n_unique() != count:
        raise DataError("Two lists have the same id; give each list one of its own.")
    if (lists.lengths < 1).any():
        raise DataError(f"List {_id(lists, lists.lengths < 1)} has no candidates; leave it out.")
    owners = np.repeat(np.arange(count), lists.lengths)
    if (~(lists.labels >= 0)).any():
        bad = int(owners[~(lists.labels >= 0)][0])
        raise DataError(f"A label of list {lists.ids[bad]!r} is negative or not a number; labels are 0, 1 or a grade.")
    known = lists.items >= 0
    keys = np.sort(owners[known] * (int(lists.items.max(initial=0)) + 1) + lists.items[known])
    if (keys[1:] == keys[:-1]).any():
        twice = int(keys[1:][keys[1:] == keys[:-1]][0]) // (int(lists.items.max(initial=0)) + 1)
        raise DataError(f"A candidate stands twice in list {lists.ids[twice]!r}; keep one of them.")


def _id(lists: RerankingLists, rows: NDArray[np.bool_]) -> str:
    return repr(lists.ids[int(rows.argmax())])
