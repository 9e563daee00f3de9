"""From groups to what is learnt from them: which answers are kept, with which advantage, and why.

Pure, and deterministic given the generator of random numbers; nothing here knows of a model, a trainer or an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from recascade_recast.advantages import group_relative
from recascade_recast.boundary import Boundary, boundary, legal_negatives
from recascade_recast.config import SignalConfig
from recascade_recast.groups import Groups
from recascade_recast.repair import last_slots, repair_slots
from recascade_recast.reward import check_anchors


class Provenance(IntEnum):
    """Where a group's signal comes from: its own answers, an inserted target, or it has none."""

    NATURAL = 0
    REPAIRED = 1
    SKIPPED = 2


@dataclass(frozen=True)
class Plan:
    """What to do with P groups of G answers.

    Attributes:
        slots: int64 ``[P]``, the answer that the anchor replaces; -1 for none.
        groups: after that.
        pairs: both sides of each boundary; -1 throughout where every answer is compared with its group's mean.
        advantages: float32 ``[P, G]``.
        kept: bool ``[P, G]``, the answers that go on to log-probabilities and to the actor.
        provenance: int64 ``[P]`` of ``Provenance``.
    """

    slots: Tensor
    groups: Groups
    pairs: Boundary
    advantages: Tensor
    kept: Tensor
    provenance: Tensor


def plan(
    groups: Groups,
    anchors: Groups,
    signal: SignalConfig,
    *,
    scaled: bool = True,
    unbiased: bool = True,
    repairable: Tensor | None = None,
    log_probs: Tensor | None = None,
    random: torch.Generator | None = None,
) -> Plan:
    """Repair, then contrast (ReCast, §3.2 and §3.3), or one of the controls.

    Args:
        groups: P groups of G answers as generated.
        anchors: one answer per prompt, the target in the form of an answer, judged by the same reward.
        signal: which repair and which contrast.
        scaled: divide a group's rewards by their deviation, for ``contrast=group``.
        unbiased: which deviation.
        repairable: bool ``[P]``, groups that may be repaired at all; None for all.
        log_probs: float ``[P, G]`` of the answers, for ``ties=log-prob``.
        random: draws ties and random negatives, on the CPU.

    Raises:
        TrainingError: an anchor that is needed gets no reward.
    """
    slots = torch.full_like(groups.depths[:, 0], -1)
    if signal.repair == "all-zero":
        slots = repair_slots(groups, repairable)
    elif signal.repair == "always":
        slots = last_slots(groups)
    repaired = slots >= 0
    check_anchors(anchors.rewards[:, 0].masked_fill(~repaired, 1.0), signal.reward)
    groups = groups.with_anchors(anchors, slots)
    if signal.contrast == "group":
        pairs = _no_boundary(groups)
        advantages = group_relative(groups.rewards, scaled=scaled, unbiased=unbiased)
        learnable = (groups.rewards != groups.rewards[:, :1]).any(1)
        chosen = learnable if signal.drop_equal else torch.ones_like(learnable)
        kept = chosen[:, None].expand_as(advantages)
    else:
        pairs = _boundary(groups, signal, log_probs, random)
        learnable = pairs.positives >= 0
        weights = torch.where(repaired, signal.repaired_weight, signal.weight)
        advantages = contrast_advantages(pairs, weights, groups.rewards.shape[1])
        kept = contrast_advantages(pairs, torch.ones_like(weights), groups.rewards.shape[1]) != 0
    provenance = torch.where(repaired, Provenance.REPAIRED, Provenance.NATURAL)
    provenance = torch.where(learnable, provenance, Provenance.SKIPPED)
    return Plan(slots, groups, pairs, advantages, kept, provenance)


def contrast_advantages(pairs: Boundary, weights: Tensor, width: int) -> Tensor:
    """+w for each group's positive, -w shared by its negatives, 0 for all others (ReCast, equation 1).

    Args:
        pairs: of P groups.
        weights: float ``[P]``, w.
        width: G.

    Returns:
        float32 ``[P, G]``.
    """
    # What is -1 is written behind the last answer.
    advantages = torch.zeros(len(weights), width + 1, device=weights.device)
    there = pairs.negatives >= 0
    shares = -weights[:, None] / there.sum(1, keepdim=True).clamp(min=1)
    advantages.scatter_(1, torch.where(there, pairs.negatives, width), shares.expand_as(pairs.negatives))
    positives = torch.where(pairs.positives >= 0, pairs.positives, width)
    advantages.scatter_(1, positives[:, None], weights[:, None])
    return advantages[:, :width]


def _boundary(
    groups: Groups, signal: SignalConfig, log_probs: Tensor | None, random: torch.Generator | None
) -> Boundary:
    device, shape = groups.rewards.device, groups.rewards.shape
    legal = legal_negatives(
        groups,
        least_score=signal.least_score,
        parsed=signal.parsed_negatives,
        literal=signal.literal_negatives,
    )
    order = log_probs if signal.ties == "log-prob" else None
    if signal.ties == "random":
        order = torch.rand(shape, generator=random).to(device)
    hardness = torch.rand(shape, generator=random).to(device) if signal.contrast == "random" else groups.scores
    return boundary(groups, legal, hardness, order=order, count=signal.width - 1)


def _no_boundary(groups: Groups) -> Boundary:
    nobody = torch.full_like(groups.depths[:, :1], -1)
    return Boundary(nobody[:, 0], nobody)
