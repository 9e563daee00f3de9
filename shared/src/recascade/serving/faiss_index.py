"""Approximate search with FAISS: an inverted file whose width of search is measured, not guessed."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.retriever import TopK
from recascade.errors import MissingDependencyError
from recascade.serving.item_index import check_queries, recall
from recascade.serving.vector_table import VectorTable

_SMALLEST_CATALOGUE = 10_000
"""Below this a scan costs no more than the detour through an inverted file."""
_TRAINING_VECTORS_PER_LIST = 40
_FIRST_PROBES = 4


class FaissIndex:
    """Inner-product search in an inverted file of full-precision vectors (faiss ``IndexIVFFlat``).

    The catalogue is cut into about √n lists of neighbouring vectors, and a search scans the lists nearest to the query.
    How many, ``tune`` finds out: it doubles their number until the sample queries reach the wanted recall. Where that
    would need more than half of the lists (vectors without neighbourhoods, such as random directions in 64
    dimensions), and for small catalogues or before ``tune``, the index scans everything and is exact. Our choice among
    faiss's structures: upserts and removals touch one list entry each, where a graph would have to be built anew.

    Memory: the vectors twice, once in the lists and once for exact search and for tuning again.

    Args:
        dimension: width d of the vectors.
        target_recall: share of the exactly best ``cutoff`` items that searches should find.
        cutoff: list length for which the recall is wanted; longer lists may reach less.

    Raises:
        MissingDependencyError: faiss is not installed.
    """

    def __init__(self, dimension: int, *, target_recall: float = 0.985, cutoff: int = 100) -> None:
        self._faiss = _import_faiss()
        self.dimension = dimension
        self.target_recall = target_recall
        self.cutoff = cutoff
        self._table = VectorTable(dimension)
        self._lists: Any = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self._table)

    @property
    def exact(self) -> bool:
        """Whether searches look at every vector."""
        return self._lists is None

    def upsert(self, rows: Tensor, vectors: Tensor) -> None:
        """Set the vectors of rows; see ``ItemIndex.upsert``."""
        keys = rows.numpy()
        self._table.upsert(keys, vectors.detach().numpy())
        if self._lists is not None:
            changed = np.unique(keys)
            self._lists.remove_ids(changed)
            self._lists.add_with_ids(self._table.vectors_of(changed), changed)

    def remove(self, rows: Tensor) -> None:
        """Forget rows."""
        gone = self._table.present(rows.numpy())
        self._table.remove(gone)
        if self._lists is not None:
            self._lists.remove_ids(gone)

    def search(self, queries: Tensor, k: int) -> TopK:
        """The rows with the largest inner products, most likely; scores are exact."""
        check_queries(queries, self.dimension)
        points = queries.detach().numpy()
        scores, rows = self._search_lists(points, k) if self._lists is not None else self._search_all(points, k)
        scores[rows < 0] = -np.inf
        return TopK(torch.from_numpy(rows), torch.from_numpy(scores))

    def tune(self, queries: Tensor) -> float:
        """Cut the catalogue into lists anew and find how many of them a search must scan.

        Args:
            queries: float32 ``[Q, d]``, a few hundred, such as the vectors of known users.

        Returns:
            recall of the sample queries at ``cutoff``; 1 where the index stays exact.
        """
        check_queries(queries, self.dimension)
        self._lists = None
        points = queries.detach().numpy()
        if len(self) < _SMALLEST_CATALOGUE or not len(points):
            return 1.0
        exact = torch.from_numpy(self._search_all(points, self.cutoff)[1])
        lists = self._cut()
        lists.nprobe = _FIRST_PROBES
        while lists.nprobe <= lists.nlist // 2:
            reached = recall(torch.from_numpy(lists.search(points, self.cutoff)[1]), exact)
            if reached >= self.target_recall:
                self._lists = lists
                return reached
            lists.nprobe *= 2
        return 1.0

    def copy(self) -> Self:
        """An independent index with the same content and lists."""
        other = type(self)(self.dimension, target_recall=self.target_recall, cutoff=self.cutoff)
        other._table = self._table.copy()
        if self._lists is not None:
            other._lists = self._faiss.clone_index(self._lists)
        return other

    def _cut(self) -> Any:
        count = int(len(self) ** 0.5)
        metric = self._faiss.METRIC_INNER_PRODUCT
        lists = self._faiss.IndexIVFFlat(self._faiss.IndexFlatIP(self.dimension), self.dimension, count, metric)
        sample = np.random.default_rng(0).permutation(len(self))[: _TRAINING_VECTORS_PER_LIST * count]
        lists.train(self._table.vectors[sample])
        # The hash table from row to place is what makes a removal cheap.
        lists.set_direct_map_type(self._faiss.DirectMap.Hashtable)
        lists.add_with_ids(self._table.vectors, self._table.rows)
        return lists

    def _search_lists(self, points: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, rows = self._lists.search(points, k)
        # The scanned lists of some query may together hold fewer than k items although the catalogue has them.
        if len(points) and (rows[:, min(k, len(self)) - 1] < 0).any():
            return self._search_all(points, k)
        return scores, rows

    def _search_all(self, points: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if not len(self):
            return np.empty((len(points), k), dtype=np.float32), np.full((len(points), k), -1, dtype=np.int64)
        scores, slots = self._faiss.knn(points, self._table.vectors, k, self._faiss.METRIC_INNER_PRODUCT)
        return scores, np.where(slots < 0, -1, self._table.rows[slots])


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError('The faiss index needs faiss: pip install "recascade[ann]"') from error
    return faiss
