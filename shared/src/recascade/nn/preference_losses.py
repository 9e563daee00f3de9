"""Objectives that compare several answers to one request by their rewards: DPO, S-DPO and the GRPO family.

All take log-probabilities of whole answers, float ``[..., n]``, and are computed in a form that neither overflows nor
loses small differences. Rewards and references carry no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

_LEAST_DEVIATION = 1e-6


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """``-log σ(β (Δ_chosen - Δ_rejected))`` (Rafailov et al., NeurIPS 2023, equation 7).

    Args:
        chosen: float ``[...]``, ``log p_θ(y) - log p_ref(y)`` of the preferred answers.
        rejected: likewise, of the others.
        beta: strength β.

    Returns:
        ``[...]``.
    """
    return softplus(beta * (rejected - chosen))


def s_dpo_loss(chosen: Tensor, others: Tensor, negatives: Tensor, beta: float) -> Tensor:
    """``-log σ(-log Σ_j exp(β (Δ_j - Δ_chosen)))`` over several negatives (S-DPO, Chen et al., NeurIPS 2024).

    Args:
        chosen: float ``[...]``, log-ratios ``log p_θ - log p_ref`` of the preferred answers.
        others: float ``[..., n]``, of all answers.
        negatives: bool ``[..., n]``, which of them count; the loss is 0 where none does.
        beta: strength β.

    Returns:
        ``[...]``.
    """
    return softplus(masked_logsumexp(beta * (others - chosen[..., None]), negatives))


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """``log Σ exp`` over the last dimension where ``mask`` holds; -inf, with a gradient of 0, where it nowhere does."""
    empty = ~mask.any(-1)
    # A row of -inf alone would have NaN as its gradient.
    kept = values.masked_fill(~mask, -torch.inf).masked_fill(empty[..., None], 0.0)
    return kept.logsumexp(-1).masked_fill(empty, -torch.inf)


def group_advantages(rewards: Tensor, mask: Tensor) -> Tensor:
    """``(r - mean) / deviation`` inside each list (GRPO, Shao et al., 2024, arXiv 2402.03300, §4.1.2).

    Args:
        rewards: float ``[..., n]``.
        mask: bool ``[..., n]``, the answers that are there.

    Returns:
        ``[..., n]``, 0 where the mask does not hold and in lists whose rewards are all equal.
    """
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    kept = rewards.masked_fill(~mask, 0.0)
    centred = (kept - kept.sum(-1, keepdim=True) / count).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    return torch.where(deviation > _LEAST_DEVIATION, centred / deviation.clamp(min=_LEAST_DEVIATION), 0.0).detach()


def grpo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    reference: Tensor | None = None,
    clip: float = 0.2,
    divergence_weight: float = 0.0,
) -> Tensor:
    """Clipped policy gradient with a penalty for leaving the reference (GRPO, arXiv 2402.03300, equations 3 and 4),
    over whole answers.

    Args:
        log_probs: float ``[..., n]``, ``log p_θ``.
        old_log_probs: float ``[..., n]``, of the policy that wrote the answers.
        advantages: float ``[..., n]``, see ``group_advantages``.
        mask: bool ``[..., n]``, the answers that are there.
        reference: float ``[..., n]``, ``log p_ref`` of the penalty; None takes ``old_log_probs``.
        clip: ε.
        divergence_weight: of the unbiased estimate ``r - log r - 1`` of the divergence, ``r = p_ref / p_θ``.

    Returns:
        ``[..., n]``, 0 where the mask does not hold.
    """
    old, reference = old_log_probs.detach(), (old_log_probs if reference is None else reference).detach()
    ratio = (log_probs - old.masked_fill(~mask, 0.0)).masked_fill(~mask, 0.0).exp()
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    log_ratio = (reference.masked_fill(~mask, 0.0) - log_probs).masked_fill(~mask, 0.0)
    divergence = torch.expm1(log_ratio) - log_ratio
    return (divergence_weight * divergence - gain).masked_fill(~mask, 0.0)
