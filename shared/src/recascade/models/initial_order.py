"""The order of the earlier stage, left as it is: the reference of every re-ranker."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade.nn.list_order import order_by_scores


class InitialOrder:
    """Keeps the candidates where they are; see ``recascade.contracts.reranker.ListScorer``."""

    def scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``: minus the initial rank, -inf in padding."""
        ranks = torch.arange(batch.candidate_mask.shape[1], device=batch.device, dtype=torch.float32)
        return (-ranks).expand(batch.batch_size, -1).masked_fill(~batch.candidate_mask, -torch.inf)

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``."""
        return order_by_scores(self.scores(batch), batch.candidate_mask, count)
