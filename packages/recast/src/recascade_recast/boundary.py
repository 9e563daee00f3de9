"""The boundary of a group: its best answer and the miss that comes closest to the target (ReCast, §3.3, equation 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recascade_recast.groups import Groups


class Boundary(NamedTuple):
    """The responses on both sides of each group's boundary, -1 where there is none.

    ``positives`` int64 ``[P]``, ``negatives`` int64 ``[P, n]``, hardest first.
    """

    positives: Tensor
    negatives: Tensor


def legal_negatives(groups: Groups, *, least_score: float = 0.0, parsed: bool = False, literal: bool = False) -> Tensor:
    """The misses that may stand against a hit: bool ``[P, G]``.

    Args:
        groups: after repair.
        least_score: u that a miss needs; the paper asks for none.
        parsed: leave out responses without an id, which the paper keeps.
        literal: allow a response that holds a target and is not rewarded, for a fault of format say. The paper's rule
            read literally would push down the right item; by default such a response is never a negative (our choice).
    """
    legal = ~groups.hits & (groups.scores >= least_score)
    if parsed:
        legal &= groups.depths >= 0
    return legal if literal else legal & (groups.depths < groups.levels)


def boundary(
    groups: Groups, legal: Tensor, hardness: Tensor, *, order: Tensor | None = None, count: int = 1
) -> Boundary:
    """``argmax r`` among hits and ``argmax hardness`` among legal misses.

    Args:
        groups: after repair.
        legal: bool ``[P, G]``, see ``legal_negatives``.
        hardness: float ``[P, G]``; the structural score in ReCast, random numbers in a control.
        order: float ``[P, G]``, what decides among equals, greater first; None for the first in rollout order, which
            is the likeliest of beams. Equal again, the first.
        count: n, negatives wanted; the paper has one.
    """
    order = torch.zeros_like(hardness) if order is None else order
    positives = _greatest(groups.rewards, groups.hits, order, 1)[:, 0]
    negatives = _greatest(hardness, legal, order, count)
    learnable = (positives >= 0) & (negatives[:, 0] >= 0)
    return Boundary(torch.where(learnable, positives, -1), torch.where(learnable[:, None], negatives, -1))


def _greatest(values: Tensor, legal: Tensor, order: Tensor, count: int) -> Tensor:
    """Places int64 ``[P, count]`` of the greatest legal values, ties by ``order`` and then the first; -1 for none."""
    # Stable sorts from the last criterion to the first.
    places = torch.argsort(order, dim=1, descending=True, stable=True)
    ranked = values.masked_fill(~legal, -torch.inf).gather(1, places)
    places = places.gather(1, torch.argsort(ranked, dim=1, descending=True, stable=True))[:, :count]
    return torch.where(legal.gather(1, places), places, -1)
