"""Advantages of every answer against its group, as the GRPO family has them: what ReCast is compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recascade.nn.preference_losses import group_advantages


def group_relative(rewards: Tensor, *, scaled: bool = True, unbiased: bool = True) -> Tensor:
    """``(r - mean) / deviation`` inside each group, 0 in groups whose rewards are all equal.

    On rewards of 0 and 1 with K hits among G answers, with the population's deviation: ``√((G - K) / K)`` for hits and
    ``-√(K / (G - K))`` for misses.

    Args:
        rewards: float ``[P, G]``.
        scaled: divide by the deviation; off, the advantages of Dr. GRPO (arXiv 2503.20783).
        unbiased: the deviation with G - 1 in its denominator, as verl and TRL have it; off, with G, as in ReCast, §2.1.

    Returns:
        float ``[P, G]``.
    """
    width = rewards.shape[1]
    if not scaled:
        return rewards - rewards.mean(1, keepdim=True)
    advantages = group_advantages(rewards, torch.ones_like(rewards, dtype=torch.bool))
    return advantages * math.sqrt((width - 1) / width) if unbiased else advantages
