"""Everyone gets the items most similar to those of their history."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.models.sparse_ranking import SCORES_AT_ONCE, history_rows, popularity_fill, rank_sparse
from recascade.nn.top_k import top_k_scores


class ItemKNN:
    """Item-based nearest neighbours: cosine of the items' sets of users (Sarwar et al., 2001), with shrinkage.

    similarity(i, j) = users of both / (sqrt(users of i · users of j) + shrinkage), kept for the ``neighbours`` most
    similar items of each item. A request adds up the rows of its distinct items; popularity fills the rest of the list.
    """

    def __init__(self, table: sparse.csr_matrix, counts: NDArray[np.int64]) -> None:
        """Keep the table ``[I, I]``, from the item of the history (row) to its neighbours, and the events per item."""
        self.table = table
        self.fill = popularity_fill(counts)

    @classmethod
    def fit(cls, data: EncodedSplit, *, neighbours: int = 100, shrinkage: float = 10.0) -> Self:
        """Compare the items by the users that had them in training."""
        return cls(_similarities(_users_by_items(data), neighbours, shrinkage), data.item_counts)

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``."""
        rows = history_rows(context, len(self.fill))
        rows.data[:] = 1.0
        scores = rows @ self.table
        return rank_sparse(scores, self.fill, k, context, exclude_seen=exclude_seen, candidates=candidates)


def _users_by_items(data: EncodedSplit) -> sparse.csr_matrix:
    """float32 ``[U, I]``, 1 where the user's training events hold the item."""
    lengths = data.train_lengths
    items = data.events.items[ranges(data.events.offsets[:-1], lengths)]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ones = np.ones(len(items), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, items, offsets), shape=(len(lengths), len(data.items)))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _similarities(users_by_items: sparse.csr_matrix, neighbours: int, shrinkage: float) -> sparse.csr_matrix:
    """float32 ``[I, I]`` with at most ``neighbours`` entries per row and an empty diagonal, some rows at a time."""
    items = users_by_items.shape[1]
    norms = np.sqrt(np.asarray(users_by_items.sum(axis=0), dtype=np.float32).ravel())
    by_item = users_by_items.T.tocsr()
    rows_at_once = max(1, SCORES_AT_ONCE // max(items, 1))
    blocks = []
    for start in range(0, items, rows_at_once):
        stop = min(start + rows_at_once, items)
        common = (by_item[start:stop] @ users_by_items).tocoo()
        values = common.data / (norms[start + common.row] * norms[common.col] + np.float32(shrinkage))
        dense = torch.full((stop - start, items), -torch.inf)
        dense[torch.from_numpy(common.row.astype(np.int64)), torch.from_numpy(common.col.astype(np.int64))] = (
            torch.from_numpy(values.astype(np.float32))
        )
        dense[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf
        best = top_k_scores(dense, min(neighbours, items))
        kept = best.items.numpy() >= 0
        row, place = np.nonzero(kept)
        blocks.append(
            sparse.csr_matrix(
                (best.scores.numpy()[row, place], (row, best.items.numpy()[row, place])), shape=(stop - start, items)
            )
        )
    return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((items, items), dtype=np.float32)
