"""From held-out rows to what a retriever is asked and what it should have answered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recascade.contracts.context import Context
from recascade.data.encoded import HeldOut
from recascade.data.events import EventSequences, offsets_of, ranges, stretches


def requests(events: EventSequences, held_out: HeldOut, rows: NDArray[np.int64]) -> Context:
    """The requests of the given rows: each user's known history, at the time of the earliest target.

    Args:
        events: all users' events.
        held_out: the part that is measured.
        rows: int64 ``[B]``, rows of ``held_out``.
    """
    users = held_out.users[rows]
    starts = events.offsets[users]
    lengths = held_out.history_ends[rows] - starts
    index = ranges(starts, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Context(
        users=torch.from_numpy(np.ascontiguousarray(users, dtype=np.int64)),
        items=torch.from_numpy(events.items[index].astype(np.int64)),
        timestamps=torch.from_numpy(events.timestamps[index].astype(np.int64)),
        offsets=torch.from_numpy(offsets),
        now=torch.from_numpy(_first_times(held_out, rows)),
    )


def _first_times(held_out: HeldOut, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 ``[B]``, time of each row's earliest target; 0 for a row without targets."""
    lengths = held_out.target_offsets[rows + 1] - held_out.target_offsets[rows]
    times = np.zeros(len(rows), dtype=np.int64)
    filled = lengths > 0
    if filled.any():
        starts, lengths = held_out.target_offsets[rows[filled]], lengths[filled]
        targets = held_out.target_timestamps[ranges(starts, lengths)]
        times[filled] = np.minimum.reduceat(targets, np.cumsum(lengths) - lengths)
    return times


class Targets(NamedTuple):
    """The targets of the measured rows as sets, flat and sorted by (row, item).

    ``rows`` int64 ``[N]``, ``items`` int64 ``[N]`` (-1: not in the vocabulary), ``repeated`` bool ``[N]`` (the user's
    history holds the item), ``counts`` int64 ``[E]`` targets per row.
    """

    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    counts: NDArray[np.int64]


def target_sets(events: EventSequences, held_out: HeldOut, rows: NDArray[np.int64], items: int) -> Targets:
    """The distinct targets of each of the given rows; every unknown item counts as one distinct target.

    Args:
        events: all users' events.
        held_out: the part that is measured.
        rows: int64 ``[E]``, rows of ``held_out``.
        items: I, size of the item vocabulary.
    """
    starts, lengths = held_out.target_offsets[rows], held_out.target_offsets[rows + 1] - held_out.target_offsets[rows]
    index = ranges(starts, lengths)
    owners = np.repeat(np.arange(len(rows), dtype=np.int64), lengths)
    targets = held_out.target_items[index].astype(np.int64)
    known = targets >= 0
    keys = np.sort(owners[known] * items + targets[known])
    keys = keys[np.diff(keys, prepend=-1) > 0]
    all_rows = np.concatenate([owners[~known], keys // items])
    all_items = np.concatenate([targets[~known], keys % items])
    held = _held(keys, events, held_out, rows, items)
    repeated = np.concatenate([np.zeros(len(all_rows) - len(keys), dtype=np.bool_), held])
    order = np.lexsort((all_items, all_rows))
    all_rows = all_rows[order]
    counts = np.bincount(all_rows, minlength=len(rows)).astype(np.int64)
    return Targets(all_rows, all_items[order], repeated[order], counts)


def _held(
    keys: NDArray[np.int64], events: EventSequences, held_out: HeldOut, rows: NDArray[np.int64], items: int
) -> NDArray[np.bool_]:
    """bool ``[K]``: which of these distinct ascending keys (place in ``rows`` · I + item) are in the row's history.

    ``np.isin`` sorts or hashes the histories, which are many times longer than the keys; looking each event up is
    faster. All histories together may be larger than the memory, so they are read in stretches.
    """
    held = np.zeros(len(keys), dtype=np.bool_)
    starts = events.offsets[held_out.users[rows]]
    lengths = held_out.history_ends[rows] - starts
    for start, stop in stretches(offsets_of(lengths)) if len(keys) else ():
        history = np.repeat(np.arange(start, stop, dtype=np.int64) * items, lengths[start:stop])
        history += events.items[ranges(starts[start:stop], lengths[start:stop])]
        place = np.searchsorted(keys, history).clip(max=len(keys) - 1)
        held[place[keys[place] == history]] = True
    return held


def find_hits(
    lists: NDArray[np.int32], target_rows: NDArray[np.int64], target_items: NDArray[np.int64], items: int
) -> NDArray[np.bool_]:
    """bool ``[E, K]``: does the place of the list hold one of the row's targets?

    Args:
        lists: int32 ``[E, K]``, items, -1 where empty.
        target_rows: int64 ``[N]``, ascending.
        target_items: int64 ``[N]``, -1 never counts as found; ascending within a row.
        items: I, size of the item vocabulary.
    """
    if not lists.size or not len(target_rows):
        return np.zeros(lists.shape, dtype=np.bool_)
    # One more column than items: the key of an unknown target (-1) then falls on no item of any row.
    width = items + 1
    keys = target_rows * width + target_items + 1
    wanted = np.arange(len(lists), dtype=np.int64)[:, None] * width + lists + 1
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    hits: NDArray[np.bool_] = (keys[place] == wanted) & (lists >= 0)
    return hits
