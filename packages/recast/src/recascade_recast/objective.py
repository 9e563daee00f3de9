"""The outer objective: a clipped policy gradient and a divergence from the reference, over codes or whole answers.

ReCast leaves it as it is (§3.4); every signal goes through the same function. The paper prints it without ratio and
clip; those are OpenOneRec's and verl's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recascade_recast.config import UpdateConfig

_LARGEST_LOG_RATIO = 20.0
_LARGEST_DIVERGENCE = 10.0
# verl's; GSPO's from its paper, arXiv 2507.18071, §5.1.
_CLIPS = {"grpo": (0.2, 0.2), "dr-grpo": (0.2, 0.2), "dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4)}


@dataclass(frozen=True)
class Clipping:
    """Bounds of the ratio.

    Attributes:
        low: the ratio is clipped at 1 - low.
        high: and at 1 + high.
        dual: most that the loss of an answer with a negative advantage grows with the ratio; 0 for no bound.
        whole: one ratio per answer, the geometric mean over its codes (GSPO), instead of one per code.
    """

    low: float
    high: float
    dual: float
    whole: bool

    @classmethod
    def of(cls, settings: UpdateConfig) -> Clipping:
        """What a family of GRPO prescribes where the settings leave it open."""
        low, high = _CLIPS[settings.family]
        return cls(
            low=low if settings.clip_low is None else settings.clip_low,
            high=high if settings.clip_high is None else settings.clip_high,
            dual=settings.dual_clip,
            whole=settings.family == "gspo",
        )


class PolicyLoss(NamedTuple):
    """Per answer ``losses`` float ``[...]``, the mean over its codes, and ``clipped`` float ``[...]``, the share of its
    codes whose gradient the clip stops."""

    losses: Tensor
    clipped: Tensor


def policy_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, clipping: Clipping) -> PolicyLoss:
    """``-min(ρ A, clip(ρ) A)``, for A < 0 at most ``-c A`` (PPO, arXiv 1707.06347; dual clip, arXiv 1912.09729).

    All ids have the same number of codes, so that a mean over codes and one over answers are one, and Dr. GRPO's
    constant length only scales the loss.

    Args:
        log_probs: float ``[..., L]``, log p_θ of each code.
        old: float ``[..., L]``, of the policy that wrote the answers; carries no gradient.
        advantages: float ``[...]``, A.
        clipping: bounds of the ratio ρ.
    """
    log_ratio = (log_probs - old.detach()).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    if clipping.whole:
        log_ratio = log_ratio.mean(-1, keepdim=True)
    ratio = log_ratio.exp()
    advantage = advantages[..., None]
    free, bounded = ratio * advantage, ratio.clamp(1 - clipping.low, 1 + clipping.high) * advantage
    gain = torch.minimum(free, bounded)
    stopped = bounded < free
    if clipping.dual:
        floor = clipping.dual * advantage
        stopped = stopped | ((advantage < 0) & (gain < floor))
        gain = torch.where(advantage < 0, torch.maximum(gain, floor), gain)
    return PolicyLoss(-gain.mean(-1), stopped.float().mean(-1))


def divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """``e^d - d - 1`` with ``d = log p_ref - log p_θ``, an unbiased estimate of KL(θ‖ref) under draws from θ.

    Clamped as in verl (d to ±20, the estimate to 10).

    Args:
        log_probs: float ``[..., L]``.
        reference: float ``[..., L]``; carries no gradient.

    Returns:
        ``[...]``, the mean over codes.
    """
    difference = (reference.detach() - log_probs).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    return (torch.expm1(difference) - difference).clamp(max=_LARGEST_DIVERGENCE).mean(-1)
