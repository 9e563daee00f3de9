"""How much a batch of groups had to teach (ReCast, §5.3): before repair, and after."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from recascade_recast.groups import Groups
from recascade_recast.plan import Plan, Provenance
from recascade_recast.structure import distinct

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "all_zero_rate": "training/grpo_all_zero_hit_reward_group_ratio",
        "sample_zero_rate": "training/grpo_zero_hit_reward_ratio_in_group_mean",
    }
)
"""The names under which OpenOneRec's code logs two of the figures."""


def diagnose(before: Groups, made: Plan) -> dict[str, Tensor]:
    """Shares of P groups, scalars float32.

    ``all_zero_rate``, ``single_hit_rate``, ``multi_hit_rate`` and ``sample_zero_rate`` (of answers) before repair;
    ``natural_learnable_rate``, groups with a hit and a miss as generated, and ``learnable_rate``, groups with a signal
    in the end; ``repaired_rate``, ``skipped_rate``; ``negative_score``, mean u of the hardest negatives, and
    ``negative_depth_0`` … ``negative_depth_{L-1}``, how many codes they share with a target (shares of the groups that
    have one, 0 without any).

    Args:
        before: the groups as generated.
        made: of them.
    """
    hits = before.hits.sum(1)
    width = before.rewards.shape[1]
    figures = {
        "all_zero_rate": hits == 0,
        "single_hit_rate": hits == 1,
        "multi_hit_rate": hits > 1,
        "natural_learnable_rate": (hits > 0) & (hits < width),
        "learnable_rate": made.provenance != Provenance.SKIPPED,
        "repaired_rate": made.slots >= 0,
        "skipped_rate": made.provenance == Provenance.SKIPPED,
    }
    rates = {name: values.float().mean() for name, values in figures.items()}
    rates["sample_zero_rate"] = (~before.hits).float().mean()
    hardest = made.pairs.negatives[:, 0]
    there = hardest >= 0
    places = hardest.clamp(min=0)[:, None]
    count = there.sum().clamp(min=1)
    rates["negative_score"] = torch.where(there, made.groups.scores.gather(1, places)[:, 0], 0.0).sum() / count
    # An answer without an id shares no code, as one with another first code.
    depths = made.groups.depths.gather(1, places)[:, 0].clamp(min=0)
    for depth in range(before.levels):
        rates[f"negative_depth_{depth}"] = (there & (depths == depth)).sum() / count
    return rates


def unique_rate(ids: Tensor) -> Tensor:
    """Distinct ids as a share of a group's G answers, mean over groups: scalar float32.

    Args:
        ids: int64 ``[P, G, L]``, one id per answer; absent ones do not count.
    """
    return distinct(ids[:, None])[:, 0].float().mean()
