"""The ads that may be shown now, changed while requests are answered (GR4AD, §4.1, "Realtime Index")."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from recascade.errors import DataError
from recascade.models.generative_retriever import GenerativeRetriever
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade_gr4ad.lazy_ar import LazyAR

_Shared = TypeVar("_Shared", bound=nn.Module)


@dataclass(frozen=True)
class IndexSnapshot:
    """Everything an answer needs of the catalogue; nothing in it ever changes.

    Attributes:
        version: rises with each change.
        retriever: whose trie holds the ads that are alive.
        ids: their semantic ids.
        names: identifiers by the model's numbers, those of deleted ads included.
        numbers: the model's number of each identifier, those of deleted ads included.
    """

    version: int
    retriever: GenerativeRetriever
    ids: SemanticIds
    names: tuple[str, ...]
    numbers: Mapping[str, int]

    def alive(self, name: str) -> bool:
        """Whether the ad may be shown."""
        return name in self.ids

    def __len__(self) -> int:
        return len(self.ids)


class LiveIndex:
    """One snapshot at a time. A change prepares the next one beside it and puts it there in one assignment: requests
    see all of a change or nothing, and a change that fails leaves no trace.

    A change costs time in proportion to the catalogue; send changes in batches.

    Args:
        retriever: as a run left it, of a ``LazyAR``.
        ids: of its items.
        names: identifiers in the model's numbering.
    """

    def __init__(self, retriever: GenerativeRetriever, ids: SemanticIds, names: Sequence[str]) -> None:
        numbers = {name: number for number, name in enumerate(names)}
        self._snapshot = IndexSnapshot(0, retriever, _copy(ids), tuple(names), numbers)
        self._changes = Lock()

    @property
    def snapshot(self) -> IndexSnapshot:
        """The ads as they are now."""
        return self._snapshot

    def upsert(
        self, names: Sequence[str], vectors: NDArray[np.float32], fields: pl.DataFrame | None = None
    ) -> IndexSnapshot:
        """Add ads, or give ads that are there the ids of their new content; visible to the next request.

        Args:
            names: n distinct identifiers.
            vectors: float32 ``[n, d]``, content as the tokenizer was fitted on.
            fields: n rows of what a hashed level reads; None where it reads ``item_id`` alone.

        Raises:
            DataError: a vector or field cannot be used, or there is no free id; nothing has changed then.
        """
        with self._changes:
            now = self._snapshot
            if len(set(names)) != len(names):
                raise DataError("An ad stands twice in one change; name each once.")
            ids = _copy(now.ids)
            ids.delete([name for name in names if name in ids])
            codes = torch.from_numpy(ids.append(names, vectors, fields)).long()
            fresh = [name for name in names if name not in now.numbers]
            numbers = {**now.numbers, **{name: len(now.names) + place for place, name in enumerate(fresh)}}
            rows = torch.tensor([numbers[name] for name in names])
            retriever = copy.copy(now.retriever)
            model = retriever.generator
            assert isinstance(model, LazyAR)
            retriever.generator = _reading_by(model, _grown(model.history.item_codes, codes, rows, len(numbers)))
            retriever.trie = retriever.trie.insert(codes, rows)
            self._snapshot = IndexSnapshot(now.version + 1, retriever, ids, (*now.names, *fresh), numbers)
            return self._snapshot

    def delete(self, names: Sequence[str]) -> IndexSnapshot:
        """Take ads out; the next request does not get them.

        Raises:
            DataError: an ad is not there; nothing has changed then.
        """
        with self._changes:
            now = self._snapshot
            ids = _copy(now.ids)
            ids.delete(names)
            retriever = copy.copy(now.retriever)
            retriever.trie = retriever.trie.delete(torch.tensor([now.numbers[name] for name in names]))
            self._snapshot = replace(now, version=now.version + 1, retriever=retriever, ids=ids)
            return self._snapshot


def _grown(item_codes: Tensor, codes: Tensor, rows: Tensor, count: int) -> Tensor:
    """The codes by which histories are read, with those of new and changed ads."""
    grown = pad(item_codes, (0, 0, 0, count - len(item_codes)))
    grown[rows.to(grown.device)] = codes.to(grown.device)
    return grown


def _reading_by(model: LazyAR, item_codes: Tensor) -> LazyAR:
    """The same weights with other codes: requests under way keep theirs."""
    history = _sharing(model.history)
    history._buffers = {**history._buffers, "item_codes": item_codes}
    return _sharing(model, context_processor=_sharing(model.context_processor, history=history))


def _sharing(module: _Shared, **parts: nn.Module) -> _Shared:
    """A copy that shares parameters, buffers and all parts but these."""
    other = copy.copy(module)
    other._modules = {**module._modules, **parts}
    return other


def _copy(ids: SemanticIds) -> SemanticIds:
    return SemanticIds(ids.item_ids, ids.codes, ids.tokenizer, ids.conflicts, ids.fingerprint)
