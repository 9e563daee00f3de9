"""What an answer is worth: rule rewards on semantic ids, and what is refused as a reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from recascade.errors import TrainingError
from recascade_recast.structure import distinct, shared_codes

Reward = Callable[[Tensor, Tensor], Tensor]
"""From ids int64 ``[P, G, M, L]`` and targets int64 ``[P, T, L]`` to rewards float ``[P, G]``."""


def precision_reward(ids: Tensor, targets: Tensor) -> Tensor:
    """``|P ∩ T| / |P|`` of a response's set of ids P and the targets T, 0 where P is empty (ReCast, §3.1).

    Args:
        ids: int64 ``[P, G, M, L]``, absent ids negative.
        targets: int64 ``[P, T, L]``, likewise.

    Returns:
        float32 ``[P, G]``.
    """
    counted = distinct(ids)
    hits = (shared_codes(ids, targets) == ids.shape[-1]) & counted
    return hits.sum(-1).float() / counted.sum(-1).clamp(min=1)


def first_id_reward(ids: Tensor, targets: Tensor) -> Tensor:
    """1 where the first id of a response is a target, else 0 (``first_sid_hit_reward`` of OpenOneRec's code).

    Args:
        ids: int64 ``[P, G, M, L]``, absent ids negative.
        targets: int64 ``[P, T, L]``, likewise.

    Returns:
        float32 ``[P, G]``.
    """
    shared = shared_codes(ids, targets)
    first = (shared >= 0).byte().argmax(-1, keepdim=True)
    return (shared.gather(-1, first)[..., 0] == ids.shape[-1]).float()


REWARDS: Mapping[str, Reward] = MappingProxyType({"precision": precision_reward, "first-id": first_id_reward})


def check_rewards(rewards: Tensor, name: str) -> None:
    """Refuse rewards that cannot be compared.

    Args:
        rewards: float ``[P, G]``.
        name: of the reward.

    Raises:
        TrainingError: one is not a finite number; it names the reward, the prompt and the response.
    """
    wrong = (~rewards.isfinite()).nonzero()
    if len(wrong):
        prompt, response = wrong[0].tolist()
        raise TrainingError(
            f"The reward {name!r} gives {rewards[prompt, response].item()} for response {response} of prompt {prompt} "
            "(both counted from 0); a reward must be a finite number."
        )


def check_anchors(rewards: Tensor, name: str) -> None:
    """Refuse a reward that does not pay for the right answer, so that a repaired group would still have no positive.

    Args:
        rewards: float ``[P]``, of the anchors that are to be inserted.
        name: of the reward.

    Raises:
        TrainingError: an anchor is not rewarded; it names the reward.
    """
    unpaid = (~(rewards > 0)).nonzero()
    if len(unpaid):
        raise TrainingError(
            f"The reward {name!r} gives {rewards[unpaid[0, 0]].item():g} for the target of prompt {int(unpaid[0, 0])} "
            "itself, so a repaired group has no positive. Build anchors in the format that the reward asks for, or set "
            "model.signal.repair=never."
        )
