"""A determinantal point process over the list, by greedy maximum a posteriori inference (Chen, Zhang and Zhou, NeurIPS
2018, arXiv 1709.05135)."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade.models.mmr import relevance_of, similarity_of
from recascade.nn.list_order import surplus_marked

# A candidate whose residual falls below has its content in the list already; rounding decides nothing below it.
_LEAST_RESIDUAL = 1e-6


class DPP:
    """Greedily takes the candidate that enlarges ``log det`` of the kernel of those taken most.

    The kernel is ``q_i S_ij q_j`` with the quality ``q = exp(relevance · weight / 2)`` and S ``candidate_similarity``
    (the paper's section 4.2 with its weight written as an exponent). The Cholesky factor grows by one row per place, so
    a list costs O(n m²). When no candidate adds anything new, the rest follows by relevance.

    Args:
        weight: of relevance against diversity, from 0 on.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``, one vectorised step per place."""
        mask, relevance = batch.candidate_mask, relevance_of(batch)
        lists, places = mask.shape
        steps = min(count, places)
        log_quality = self.weight * relevance
        # Dividing the kernel by its qualities leaves the residuals of S alone, so that large weights do not overflow.
        similarity = similarity_of(batch)
        residuals = torch.ones_like(relevance)
        factors = torch.zeros(lists, places, steps, device=mask.device)
        left = mask.clone()
        chosen = []
        for step in range(steps):
            # Saturated candidates come last, by relevance: below every residual by more than qualities can differ.
            saturated = residuals <= _LEAST_RESIDUAL
            gain = (
                log_quality
                + residuals.clamp(min=_LEAST_RESIDUAL).log()
                - saturated * (1 + 2 * log_quality.abs().amax())
            )
            place = gain.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
            left.scatter_(1, place, False)
            row = similarity.gather(2, place[:, None].expand(-1, places, 1))[..., 0]
            of_place = factors.gather(1, place[..., None].expand(-1, 1, steps))
            scale = residuals.gather(1, place).clamp(min=_LEAST_RESIDUAL).sqrt()
            added = (row - (factors * of_place).sum(2)) / scale
            factors[..., step] = added
            residuals = residuals - added.square()
            chosen.append(place)
        return surplus_marked(torch.cat(chosen, 1), mask, count)
