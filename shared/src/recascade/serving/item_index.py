"""An index of item vectors that answers: which k items have the largest inner product with this query?"""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from recascade.contracts.retriever import TopK
from recascade.errors import DataError
from recascade.serving.vector_table import VectorTable

_SCORES_AT_ONCE = 1 << 24
"""64 MB of scores."""


@runtime_checkable
class ItemIndex(Protocol):
    """Item vectors by row, searched by inner product, changed in place.

    Any number of threads may search at a time. A change needs the index to itself: change a ``copy`` and put it in the
    place of the index, which searches under way keep.
    """

    dimension: int

    def upsert(self, rows: Tensor, vectors: Tensor) -> None:
        """Set the vectors (float32 ``[n, d]``) of rows (int64 ``[n]``), new or known; the last one of a row stays.

        Raises:
            DataError: shapes do not fit, a row is negative or a vector is not finite; nothing has changed.
        """
        ...

    def remove(self, rows: Tensor) -> None:
        """Forget rows (int64 ``[n]``); rows that are not there are ignored."""
        ...

    def search(self, queries: Tensor, k: int) -> TopK:
        """The k rows with the largest inner products with each query (float32 ``[B, d]``), best first.

        Returns:
            ``items`` int64 ``[B, k]`` holds rows, -1 where the index has fewer than k; ``scores`` float32 ``[B, k]``,
            -inf there.
        """
        ...

    def tune(self, queries: Tensor) -> float:
        """Fit the structure to the present content and to sample queries (float32 ``[Q, d]``), as the server will
        see them.

        Returns:
            the share of the exactly best items that searches for the samples find.
        """
        ...

    def copy(self) -> Self:
        """An independent index with the same content and structure."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...


class FlatIndex:
    """The exact answer by looking at every vector: right for any catalogue, fast to about 10^5 items.

    Args:
        dimension: width d of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._table = VectorTable(dimension)

    def __len__(self) -> int:
        """Number of items."""
        return len(self._table)

    def upsert(self, rows: Tensor, vectors: Tensor) -> None:
        """Set the vectors of rows; see ``ItemIndex.upsert``."""
        self._table.upsert(rows.numpy(), vectors.detach().numpy())

    def remove(self, rows: Tensor) -> None:
        """Forget rows."""
        self._table.remove(rows.numpy())

    def search(self, queries: Tensor, k: int) -> TopK:
        """The exactly best rows of each query."""
        return exact_search(self._table, queries, k)

    def tune(self, queries: Tensor) -> float:
        """Nothing to fit; an exact search finds everything."""
        check_queries(queries, self.dimension)
        return 1.0

    def copy(self) -> FlatIndex:
        """An independent index with the same content."""
        other = FlatIndex(self.dimension)
        other._table = self._table.copy()
        return other


def check_queries(queries: Tensor, dimension: int) -> None:
    """Refuse queries of another width than the index.

    Raises:
        DataError: ``queries`` is not ``[B, d]``.
    """
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise DataError(
            f"The index holds vectors of {dimension} numbers, and was asked with queries of shape "
            f"{tuple(queries.shape)}; the user tower and the index must come from one model."
        )


def exact_search(table: VectorTable, queries: Tensor, k: int) -> TopK:
    """The k best rows of a table for each query (float32 ``[B, d]``), as ``ItemIndex.search`` gives them."""
    check_queries(queries, table.dimension)
    items = torch.full((len(queries), k), -1)
    scores = torch.full((len(queries), k), -torch.inf)
    found = min(k, len(table))
    if found:
        rows, vectors = torch.from_numpy(table.rows), torch.from_numpy(table.vectors)
        step = max(1, _SCORES_AT_ONCE // len(table))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            # One query needs no tiles and no rule for ties, which is why recascade.nn.top_k would be slower here.
            best = torch.topk(queries.detach()[part] @ vectors.T, found)
            items[part, :found], scores[part, :found] = rows[best.indices], best.values
    return TopK(items, scores)


def recall(found: Tensor, exact: Tensor) -> float:
    """The share of the exactly best items (int64 ``[Q, k]``, -1 is none) that ``found`` (int64 ``[Q, m]``) holds."""
    wanted = exact >= 0
    hits = (exact[:, :, None] == found[:, None, :]).any(dim=2) & wanted
    return float(hits.sum() / wanted.sum().clamp(min=1))
