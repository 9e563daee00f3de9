"""Rollout repair: a group in which nobody hit gets the target in the place of its least informative response."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade_recast.groups import Groups


def repair_slots(groups: Groups, repairable: Tensor | None = None) -> Tensor:
    """Where the anchor goes in groups without a hit (ReCast, §3.2): ``argmin u``.

    The last of several least scores is taken (our choice): with beams, the first would be the likeliest response.

    Args:
        groups: as they were generated.
        repairable: bool ``[P]``, groups that may be repaired at all; None for all.

    Returns:
        int64 ``[P]``, -1 where nothing is replaced.
    """
    failed = ~groups.hits.any(1)
    if repairable is not None:
        failed &= repairable
    last = groups.scores.shape[1] - 1 - groups.scores.flip(1).argmin(1)
    return torch.where(failed, last, -1)


def last_slots(groups: Groups) -> Tensor:
    """The last place of every group, hit or not (the ``add_gt`` of MiniOneRec's code): int64 ``[P]``."""
    return torch.full_like(groups.depths[:, 0], groups.depths.shape[1] - 1)


def repair_share(natural_rate: float, target_rate: float) -> float:
    """The share of failed groups that adaptive repair still repairs: ``1 - natural / target``, never below 0.

    The paper names adaptive repair as an open direction and gives no rule; this one is ours.

    Args:
        natural_rate: share of groups that are learnable as generated.
        target_rate: the natural rate at which repair ends; 0 repairs always.
    """
    return max(0.0, 1.0 - natural_rate / target_rate) if target_rate > 0 else 1.0
