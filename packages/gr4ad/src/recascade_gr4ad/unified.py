"""How much a sample imitates and how much it ranks, by how far the policy is from the order of values (GR4AD, §3.5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recascade_gr4ad.rspo import ranks_of


class UnifiedWeights(NamedTuple):
    """Weights of B lists, float ``[B, n]`` each, without gradient."""

    imitation: Tensor
    ranking: Tensor


@torch.no_grad()
def rank_discrepancy(log_probs: Tensor, grades: Tensor, mask: Tensor) -> Tensor:
    """A (equation 19): ``|rank by p_θ - rank by value| / (n - 1)``, in [0, 1].

    Args:
        log_probs: float ``[B, n]``.
        grades: float ``[B, n]``; of equal ones the more probable stands first, so that ties cost nothing (our choice).
        mask: bool ``[B, n]``.

    Returns:
        ``[B, n]``, 0 in lists of one and for absent candidates.
    """
    by_policy = ranks_of(log_probs, mask)
    # Candidates in the policy's order, then by value with a stable sort.
    order = by_policy.argsort(dim=1)
    by_value = ranks_of(grades.gather(1, order), mask.gather(1, order)).gather(1, by_policy)
    longest = (mask.sum(1, keepdim=True) - 1).clamp(min=1)
    return ((by_policy - by_value).abs().to(log_probs.dtype) / longest).masked_fill(~mask, 0.0)


@torch.no_grad()
def unified_weights(
    discrepancy: Tensor, grades: Tensor, *, base: float = 1.0, most_ranking: float = 1.0
) -> UnifiedWeights:
    """``w_VSL = w_0 (1 + v)^A`` and ``w_RL = w_0 Z_max (1 - A)`` (equations 20 and 21).

    Args:
        discrepancy: A, float ``[B, n]``.
        grades: v, float ``[B, n]``, bounded and not negative.
        base: w_0 (the paper gives none).
        most_ranking: Z_max (the paper gives none).
    """
    return UnifiedWeights(base * (1 + grades) ** discrepancy, base * most_ranking * (1 - discrepancy))
