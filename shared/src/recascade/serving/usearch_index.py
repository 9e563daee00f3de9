"""Approximate search with USearch: a navigable graph, the alternative to the inverted file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recascade.contracts.retriever import TopK
from recascade.errors import MissingDependencyError
from recascade.serving.item_index import check_queries, exact_search, recall
from recascade.serving.vector_table import VectorTable

_CONNECTIVITY = 32
_EXPANSION_ADD = 128
_FIRST_EXPANSION = 100
_LARGEST_EXPANSION = 3200


class UsearchIndex:
    """Inner-product search in a hierarchical navigable small-world graph (Malkov and Yashunin, 2018).

    Against ``FaissIndex``: searches of clustered vectors cost about the same, building the graph costs a hundred times
    more, and an upsert thirty times more; it pays from millions of items on. ``tune`` widens the search until the
    sample queries reach the wanted recall, to at most 3,200 candidates.

    Args:
        dimension: width d of the vectors.
        target_recall: share of the exactly best ``cutoff`` items that searches should find.
        cutoff: list length for which the recall is wanted.

    Raises:
        MissingDependencyError: usearch is not installed.
    """

    def __init__(self, dimension: int, *, target_recall: float = 0.985, cutoff: int = 100) -> None:
        self.dimension = dimension
        self.target_recall = target_recall
        self.cutoff = cutoff
        self._table = VectorTable(dimension)
        self._graph: Any = _import_usearch().Index(
            ndim=dimension,
            metric="ip",
            dtype="f32",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_FIRST_EXPANSION,
        )

    def __len__(self) -> int:
        """Number of items."""
        return len(self._table)

    def upsert(self, rows: Tensor, vectors: Tensor) -> None:
        """Set the vectors of rows; see ``ItemIndex.upsert``."""
        keys = rows.numpy()
        known = self._table.present(keys)
        self._table.upsert(keys, vectors.detach().numpy())
        changed = np.unique(keys)
        if len(known):
            self._graph.remove(known)
        if len(changed):
            self._graph.add(changed, self._table.vectors_of(changed), threads=1)

    def remove(self, rows: Tensor) -> None:
        """Forget rows."""
        gone = self._table.present(rows.numpy())
        self._table.remove(gone)
        if len(gone):
            self._graph.remove(gone)

    def search(self, queries: Tensor, k: int) -> TopK:
        """The rows with the largest inner products, most likely; scores are exact."""
        check_queries(queries, self.dimension)
        items = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        if len(queries) and len(self):
            matches = self._graph.search(queries.detach().numpy(), k, threads=1)
            keys = matches.keys.reshape(len(queries), -1).astype(np.int64)
            distances = matches.distances.reshape(len(queries), -1)
            counts = np.atleast_1d(matches.counts if len(queries) > 1 else len(matches))
            found = np.arange(keys.shape[1]) < counts[:, None]
            given = slice(keys.shape[1])
            items[:, given] = np.where(found, keys, -1)
            # USearch's distance is 1 - the inner product.
            np.subtract(1.0, distances, out=scores[:, given], where=found)
        return TopK(torch.from_numpy(items), torch.from_numpy(scores))

    def tune(self, queries: Tensor) -> float:
        """Find how wide a search must be; the graph stays.

        Args:
            queries: float32 ``[Q, d]``, a few hundred, such as the vectors of known users.

        Returns:
            recall of the sample queries at ``cutoff``.
        """
        exact = exact_search(self._table, queries, self.cutoff).items
        self._graph.expansion_search = _FIRST_EXPANSION
        while True:
            reached = recall(self.search(queries, self.cutoff).items, exact)
            if reached >= self.target_recall or self._graph.expansion_search >= _LARGEST_EXPANSION:
                return reached
            self._graph.expansion_search *= 2

    def copy(self) -> UsearchIndex:
        """An independent index with the same content and graph."""
        other = UsearchIndex(self.dimension, target_recall=self.target_recall, cutoff=self.cutoff)
        other._table, other._graph = self._table.copy(), self._graph.copy()
        return other


def _import_usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise MissingDependencyError('The usearch index needs usearch: pip install "recascade[usearch]"') from error
    return usearch.index
