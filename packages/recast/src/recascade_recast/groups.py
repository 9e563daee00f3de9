"""What ReCast knows of a batch of groups: numbers per response, whatever the responses are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recascade_recast.reward import Reward, check_rewards
from recascade_recast.structure import shared_codes, structural_score


@dataclass(frozen=True)
class Groups:
    """P prompts with G responses each.

    Attributes:
        rewards: float ``[P, G]``, r; a response with a reward above 0 is a hit.
        scores: float ``[P, G]``, the structural score u.
        depths: int64 ``[P, G]``, the longest prefix that an id of the response shares with a target; -1 for a response
            without an id.
        levels: L.
    """

    rewards: Tensor
    scores: Tensor
    depths: Tensor
    levels: int

    @property
    def hits(self) -> Tensor:
        """bool ``[P, G]``."""
        return self.rewards > 0

    def with_anchors(self, anchors: Groups, slots: Tensor) -> Groups:
        """The same groups with the responses at ``slots`` replaced.

        Args:
            anchors: one response per prompt.
            slots: int64 ``[P]``, the place that the prompt's anchor takes; -1 for none.
        """
        replaced = torch.arange(self.rewards.shape[1], device=slots.device) == slots[:, None]
        return Groups(
            torch.where(replaced, anchors.rewards, self.rewards),
            torch.where(replaced, anchors.scores, self.scores),
            torch.where(replaced, anchors.depths, self.depths),
            self.levels,
        )


def judge(ids: Tensor, targets: Tensor, reward: Reward, name: str) -> Groups:
    """Reward and structural score of P groups.

    Args:
        ids: int64 ``[P, G, M, L]``, the ids in each response, absent ones negative.
        targets: int64 ``[P, T, L]``, likewise.
        reward: of the task.
        name: of the reward, for messages.

    Raises:
        TrainingError: a reward is not a finite number.
    """
    rewards = reward(ids, targets)
    check_rewards(rewards, name)
    depths = shared_codes(ids, targets).amax(-1)
    return Groups(rewards, structural_score(ids, targets), depths, ids.shape[-1])
