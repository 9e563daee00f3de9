"""Everyone gets what most often came right after their last item: a first-order Markov chain."""

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
from recascade.models.item_pairs import followed_by
from recascade.models.sparse_ranking import history_rows, popularity_fill, rank_sparse


class Transition:
    """Ranks by the number of training transitions from the last item, then by popularity."""

    def __init__(self, table: sparse.csr_matrix, counts: NDArray[np.int64], *, last_time: bool = False) -> None:
        """Keep the transitions.

        Args:
            table: ``[I, I]``, how often column follows row.
            counts: int64 ``[I]``, training events per item.
            last_time: start from all events that carry the last event's time stamp, not from the last event alone.
        """
        self.table = table
        self.fill = popularity_fill(counts)
        self.last_time = last_time

    @classmethod
    def fit(cls, data: EncodedSplit) -> Self:
        """Count transitions, under ``ties=group`` from each item of a group to each of the next group."""
        return cls(followed_by(data), data.item_counts, last_time=data.manifest.config.ties == "group")

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``."""
        newest = _newest(context) if self.last_time else context.last(1)
        scores = history_rows(newest, len(self.fill)) @ self.table
        return rank_sparse(scores, self.fill, k, context, exclude_seen=exclude_seen, candidates=candidates)


def _newest(context: Context) -> Context:
    """The same requests with only the events that carry the last event's time stamp."""
    rows = context.rows
    latest = torch.full_like(context.users, torch.iinfo(torch.int64).min)
    latest = latest.scatter_reduce(0, rows, context.timestamps, "amax")
    kept = context.timestamps == latest[rows]
    lengths = torch.bincount(rows[kept], minlength=context.batch_size)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return Context(context.users, context.items[kept], context.timestamps[kept], offsets, context.now)
