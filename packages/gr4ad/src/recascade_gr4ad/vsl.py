"""VSL: supervised learning that weighs samples by value and predicts it, too (GR4AD, §3.3, equations 12 to 15)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recascade.errors import DataError


def step_losses(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """``-log p`` of each step of N samples: ``[N, steps]``.

    Args:
        logits: of each step, float ``[N, V_t]``.
        targets: of each step, int64 ``[N]``; -1 for no target, whose loss is 0.
    """
    pairs = zip(logits, targets, strict=True)
    return torch.stack([cross_entropy(part, true, reduction="none", ignore_index=-1) for part, true in pairs], dim=1)


def next_token_loss(losses: Tensor, levels: int, value_weight: float) -> Tensor:
    """``L_NTP = L_SID + λ_e L_eCPM`` (equation 14): ``[N]``.

    Args:
        losses: ``[N, T']`` of all steps, the eCPM step last where there is one.
        levels: T.
        value_weight: λ_e (the paper gives none).
    """
    return losses[:, :levels].sum(1) + value_weight * losses[:, levels:].sum(1)


def value_aware_loss(
    next_token: Tensor, multi_token: Tensor | None, weights: Tensor, multi_token_weight: float
) -> Tensor:
    """``L_VSL = E[w (L_NTP + λ_mtp L_MTP)]`` (equation 15): a scalar.

    Args:
        next_token: ``[N]``.
        multi_token: ``[N]``, or None without this term.
        weights: w ``[N]``, see ``user_weights``.
        multi_token_weight: λ_mtp (the paper gives none).
    """
    total = next_token if multi_token is None else next_token + multi_token_weight * multi_token
    return (weights * total).mean()


def user_weights(long_term_value: Tensor) -> Tensor:
    """``w_user = clip(1 + log(1 + ltv) / mean, 0.5, 2)``, scaled to a mean of 1 (our choice: the paper says only that
    it grows with the user's long-term value to advertisers).

    Args:
        long_term_value: float ``[U]``, not negative.

    Returns:
        ``[U]``.

    Raises:
        DataError: a value is negative or not a number.
    """
    if not bool((long_term_value >= 0).all()):
        raise DataError("A user's long-term value is negative or not a number; ad values must be 0 or more.")
    grown = torch.log1p(long_term_value)
    weights = (1 + grown / grown.mean().clamp(min=1e-12)).clamp(0.5, 2.0)
    return weights / weights.mean()
