"""What GR4AD compares RSPO with: DPO, S-DPO and GRPO on the same lists (GR4AD, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.preference_losses import dpo_loss, group_advantages, grpo_loss, s_dpo_loss
from recascade_gr4ad.rspo import pairs


def list_dpo(log_ratios: Tensor, grades: Tensor, mask: Tensor, beta: float) -> Tensor:
    """DPO of each list's most against its least valuable candidate (the paper does not say which pair; our choice).

    Args:
        log_ratios: float ``[B, n]``, ``log p_θ - log p_ref``.
        grades: float ``[B, n]``, v.
        mask: bool ``[B, n]``.
        beta: strength β.

    Returns:
        Scalar, the mean over lists with two different grades; 0 where there is none.
    """
    chosen, has_pair = _best(grades, mask)
    rejected = grades.masked_fill(~mask, torch.inf).argmin(1)
    losses = dpo_loss(_at(log_ratios, chosen), _at(log_ratios, rejected), beta)
    return _mean(losses, has_pair)


def list_s_dpo(log_ratios: Tensor, grades: Tensor, mask: Tensor, beta: float) -> Tensor:
    """S-DPO of each list's most valuable candidate against all that are worth less; arguments as of ``list_dpo``."""
    chosen, has_pair = _best(grades, mask)
    negatives = mask & (grades < _at(grades, chosen)[:, None])
    return _mean(s_dpo_loss(_at(log_ratios, chosen), log_ratios, negatives, beta), has_pair)


def list_grpo(
    log_probs: Tensor, reference: Tensor, grades: Tensor, mask: Tensor, *, clip: float, divergence_weight: float
) -> Tensor:
    """GRPO with the grades as rewards, the recorded probabilities as those of the old policy.

    Args:
        log_probs: float ``[B, n]``, log p_θ.
        reference: float ``[B, n]``, log p_ref.
        grades: float ``[B, n]``.
        mask: bool ``[B, n]``.
        clip: ε.
        divergence_weight: of the penalty for leaving the reference.

    Returns:
        Scalar, the mean over candidates.
    """
    advantages = group_advantages(grades, mask)
    losses = grpo_loss(log_probs, reference, advantages, mask, clip=clip, divergence_weight=divergence_weight)
    return losses.sum() / mask.sum().clamp(min=1)


def _best(grades: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """int64 ``[B]``, each list's most valuable candidate, the first of several; bool ``[B]``, whether it beats any."""
    return grades.masked_fill(~mask, -torch.inf).argmax(1), pairs(grades, mask).flatten(1).any(1)


def _at(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(1, places[:, None])[:, 0]


def _mean(losses: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, losses, 0.0).sum() / chosen.sum().clamp(min=1)
