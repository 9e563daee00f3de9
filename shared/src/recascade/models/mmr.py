"""MMR, maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998)."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade.nn.list_order import surplus_marked
from recascade.nn.list_similarity import candidate_similarity


class MMR:
    """Greedily takes the candidate with the greatest ``λ · relevance - (1 - λ) · greatest similarity to those taken``.

    Relevance is the earlier stage's score, standardised within the list; where it gave none, minus the initial rank,
    standardised likewise. Similarity is ``candidate_similarity``.

    Args:
        trade_off: λ in [0, 1]; 1 leaves the order of the scores.
    """

    def __init__(self, trade_off: float) -> None:
        self.trade_off = trade_off

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``, one vectorised step per place."""
        relevance, similarity = relevance_of(batch), similarity_of(batch)
        left = batch.candidate_mask.clone()
        nearest = torch.zeros_like(relevance)
        chosen = []
        for step in range(min(count, left.shape[1])):
            gain = self.trade_off * relevance - (1 - self.trade_off) * nearest
            place = gain.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
            left.scatter_(1, place, False)
            to_chosen = similarity.gather(2, place[:, None].expand(-1, left.shape[1], 1))[..., 0]
            nearest = to_chosen if step == 0 else torch.maximum(nearest, to_chosen)
            chosen.append(place)
        return surplus_marked(torch.cat(chosen, 1), batch.candidate_mask, count)


def relevance_of(batch: RerankingBatch) -> Tensor:
    """float ``[B, n]``: the earlier stage's scores; minus the initial rank, standardised, in lists without any."""
    mask = batch.candidate_mask
    ranks = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32)
    lengths = batch.lengths[:, None].clamp(min=2)
    deviation = ((lengths**2 - 1) / 12).sqrt()
    falling = ((lengths - 1) / 2 - ranks) / deviation
    scored = (batch.initial_scores != 0).any(1, keepdim=True)
    return torch.where(scored, batch.initial_scores, falling).masked_fill(~mask, 0.0)


def similarity_of(batch: RerankingBatch) -> Tensor:
    """float ``[B, n, n]``, see ``candidate_similarity``."""
    return candidate_similarity(batch.candidate_fields, batch.candidate_features, batch.candidate_mask)
