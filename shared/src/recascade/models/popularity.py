"""Everyone gets the most popular items."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.encoded import EncodedSplit
from recascade.nn.top_k import top_k_scores


class Popularity:
    """Ranks by the number of training events; equal counts stand in the (random) order of the vocabulary."""

    def __init__(self, counts: Tensor) -> None:
        """Keep the counts, ``[I]``."""
        self.counts = counts.to(torch.float32)

    @classmethod
    def fit(cls, data: EncodedSplit) -> Self:
        """Count the training events of each item."""
        return cls(torch.from_numpy(data.item_counts))

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``."""
        scores = self.counts.to(context.offsets.device).expand(context.batch_size, -1)
        if exclude_seen:
            return top_k_scores(scores, k, seen=context, candidates=candidates)
        one = top_k_scores(scores[:1], k, candidates=candidates)
        return TopK(one.items.expand(context.batch_size, -1), one.scores.expand(context.batch_size, -1))
