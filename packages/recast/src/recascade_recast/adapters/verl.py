"""ReCast under verl: a transform of the batch between the reward and the old log-probabilities.

Advantage estimators registered with verl see a batch too late, when old and reference log-probabilities are there, and
cannot repair it. This transform stands before them: it rewrites one response of each failed group, keeps two rows of
each group with a boundary and removes all others, so that three stages of the actor have less to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recascade.errors import ConfigurationError, DataError
from recascade_recast.adapters.anchors import put_id
from recascade_recast.adapters.code_tokens import CodeTokens, padded_targets
from recascade_recast.adapters.signals import check_signal
from recascade_recast.config import SignalConfig
from recascade_recast.diagnostics import ALIASES, diagnose
from recascade_recast.groups import Groups
from recascade_recast.plan import Plan, plan
from recascade_recast.reward import REWARDS, check_rewards
from recascade_recast.structure import shared_codes, structural_score

TargetsOf = Callable[[Any], Sequence[Sequence[int]]]
"""From an entry of ``reward_model`` (verl's column with the ground truth) to the ids that should be answered."""

ScoreAnchors = Callable[[Tensor, Sequence[Any]], Tensor]
"""From anchors int64 ``[P, T]`` and their entries of ``reward_model`` to rewards float ``[P]``."""

ESTIMATOR = "recast"


@dataclass(frozen=True)
class ReCastBatch:
    """Turns a ``verl.DataProto`` with rewards into one with two rows per group.

    It needs ``responses``, ``input_ids``, ``attention_mask``, ``position_ids``, ``response_mask`` and ``rm_scores`` in
    ``batch``, and ``uid`` and ``reward_model`` in ``non_tensor_batch``; every group has as many rows.

    Attributes:
        tokens: which token writes which code.
        targets_of: reads the ground truth.
        signal: what is learnt from a group.
        score_anchors: the task's own reward of an inserted target, so that one that asks for a format is found out;
            None takes the rule that ``signal.reward`` names.

    Raises:
        ConfigurationError: the signal cannot be had under an engine.
    """

    tokens: CodeTokens
    targets_of: TargetsOf
    signal: SignalConfig
    score_anchors: ScoreAnchors | None = None

    def __post_init__(self) -> None:
        check_signal(self.signal)

    def __call__(self, data: Any, divisor: int = 1) -> dict[str, float]:
        """Repair, choose and filter in place.

        Afterwards ``rm_scores`` holds ±w at each kept response's last token, and rows that only fill the batch up to a
        multiple of ``divisor`` have neither reward nor response mask.

        Args:
            data: the ``DataProto``.
            divisor: rows must be a multiple of it, the number of data-parallel ranks.

        Returns:
            Figures for verl's log, OpenOneRec's names among them.

        Raises:
            DataError: groups differ in size, or a prompt has no target.
            ConfigurationError: no group has anything to learn from.
            TrainingError: a reward is not a number, or an anchor gets none.
        """
        rows = group_rows(data.non_tensor_batch["uid"])
        prompts, width = rows.shape
        batch = data.batch
        rows = rows.to(batch["responses"].device)
        truths = [data.non_tensor_batch["reward_model"][row] for row in rows[:, 0].tolist()]
        targets = padded_targets([self.targets_of(truth) for truth in truths]).to(rows.device)
        responses = batch["responses"][rows]
        found = self.tokens.find(responses.flatten(0, 1))
        before = self._judge(found.ids.view(prompts, width, *found.ids.shape[1:]), targets, batch["rm_scores"][rows])
        starts = found.starts.view(prompts, width)
        candidates = put_id(responses, starts, _would_be_replaced(before), self.tokens.write(targets[:, 0]))
        made = plan(before, self._judge_anchors(candidates, targets, truths), self.signal)
        self._repair(data, rows, starts, responses, made, targets)
        self._filter(data, rows, made, divisor)
        figures = {name: float(value) for name, value in diagnose(before, made).items()}
        aliases = {alias: figures[name] for name, alias in ALIASES.items()}
        return {f"recast/{name}": value for name, value in figures.items()} | aliases

    def _judge(self, ids: Tensor, targets: Tensor, token_scores: Tensor) -> Groups:
        rewards = token_scores.sum(-1)
        check_rewards(rewards, "rm_scores")
        depths = shared_codes(ids, targets).amax(-1)
        return Groups(rewards, structural_score(ids, targets), depths, ids.shape[-1])

    def _judge_anchors(self, anchors: Tensor, targets: Tensor, truths: Sequence[Any]) -> Groups:
        ids = self.tokens.find(anchors).ids[:, None]
        if self.score_anchors is None:
            rewards = REWARDS[self.signal.reward](ids, targets)
        else:
            rewards = self.score_anchors(anchors, truths)[:, None].to(anchors.device)
        return self._judge(ids, targets, rewards[..., None])

    def _repair(self, data: Any, rows: Tensor, starts: Tensor, responses: Tensor, made: Plan, targets: Tensor) -> None:
        """Write the anchors over the rows that they replace, masks and positions included."""
        repaired = (made.slots >= 0).nonzero()[:, 0]
        anchors = put_id(responses, starts, made.slots, self.tokens.write(targets[:, 0]))
        slots = made.slots.clamp(min=0)
        own = starts.gather(1, slots[:, None])[:, 0] >= 0
        # Where the replaced response had no id, another one of the group lent its text, and with it its length.
        template = torch.where(own, slots, (starts >= 0).byte().argmax(1))
        place = torch.arange(len(rows), device=rows.device)
        target_rows, source_rows = rows[place, slots][repaired], rows[place, template][repaired]
        for name in ("input_ids", "attention_mask", "position_ids", "response_mask"):
            data.batch[name][target_rows] = data.batch[name][source_rows]
        data.batch["responses"][target_rows] = anchors[repaired]
        data.batch["input_ids"][target_rows, -anchors.shape[1] :] = anchors[repaired]

    def _filter(self, data: Any, rows: Tensor, made: Plan, divisor: int) -> None:
        """Keep the rows with a signal alone, pairs together, and fill up to the divisor."""
        if not bool(made.kept.any()):
            raise ConfigurationError(
                "No group of the batch has both a hit and a miss, so no row is left to train on. Set the signal's "
                "repair to 'all-zero', or raise the number of prompts."
            )
        kept = rows[made.kept]
        spare = -len(kept) % divisor
        chosen = torch.cat([kept, kept[:1].expand(spare)])
        selected = data.select_idxs(chosen.cpu())
        data.batch, data.non_tensor_batch = selected.batch, selected.non_tensor_batch
        mask = data.batch["response_mask"].clone()
        mask[len(kept) :] = 0
        values = torch.zeros(len(chosen), device=rows.device)
        values[: len(kept)] = made.advantages[made.kept]
        last = (torch.arange(1, mask.shape[1] + 1, device=mask.device) * (mask > 0)).argmax(1)
        data.batch["response_mask"] = mask
        data.batch["rm_scores"] = torch.zeros_like(data.batch["rm_scores"]).scatter(
            1, last[:, None], values[:, None].to(data.batch["rm_scores"].dtype)
        )
        uids = np.array(data.non_tensor_batch["uid"], dtype=object)
        uids[len(kept) :] = [f"padding-{number}" for number in range(spare)]
        data.non_tensor_batch["uid"] = uids
        data.meta_info["global_token_num"] = data.batch["attention_mask"].sum(-1).tolist()


def group_rows(uids: Sequence[Any]) -> Tensor:
    """The rows of each group in their order: int64 ``[P, G]``, groups in the order of their first rows.

    Raises:
        DataError: groups differ in size.
    """
    _, first, inverse, counts = np.unique(
        np.asarray(uids, dtype=str), return_index=True, return_inverse=True, return_counts=True
    )
    if len(set(counts.tolist())) > 1:
        raise DataError(
            f"Groups have {counts.min()} to {counts.max()} responses; ReCast must see the batch before anything is "
            "taken out of it."
        )
    order = np.lexsort((np.arange(len(inverse)), first[inverse]))
    return torch.from_numpy(order.reshape(len(counts), -1))


def recast_advantages(token_level_rewards: Tensor, response_mask: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
    """The estimator that goes with the transform: each response's score, on all of its tokens.

    Register it with ``verl.trainer.ppo.core_algos.register_adv_est(ESTIMATOR)(recast_advantages)`` and set
    ``algorithm.adv_estimator=recast``.

    Args:
        token_level_rewards: float ``[N, T]``.
        response_mask: ``[N, T]``.

    Returns:
        Advantages and returns, the same float ``[N, T]``.
    """
    advantages = token_level_rewards.sum(-1, keepdim=True) * response_mask
    return advantages, advantages


def _would_be_replaced(groups: Groups) -> Tensor:
    """Where an anchor would go in every group, failed or not: the least informative response."""
    width = groups.scores.shape[1]
    return width - 1 - groups.scores.flip(1).argmin(1)
