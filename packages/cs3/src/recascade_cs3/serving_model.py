"""The towers as a service uses them: weights of one moment, which never change, under a version."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.two_tower import TwoTower
from recascade.serving.frozen_tower import FrozenTower
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.tables import Tables

_ITEMS_AT_ONCE = 8192


class ServingModel:
    """A copy of both towers.

    Args:
        learner: whose weights are copied; it may go on learning.

    Attributes:
        version: of the weights: the learner's seed and its gradient steps.
        width: of the vectors.
        history_length: latest positives that the user tower reads.

    Raises:
        ConfigurationError: the backbone's score is not one inner product, so that no index could find its best items.
    """

    def __init__(self, learner: OnlineLearner) -> None:
        original = learner.module.backbone
        if not original.single_inner_product:
            raise ConfigurationError(
                f"The score of backbone {learner.config.backbone.name!r} is not one inner product, so no index finds "
                "its best items; train with model.backbone.interaction_heads=1 to serve it."
            )
        self.version = f"{learner.seed}.{learner.steps}"
        self.width = original.user_width
        self.history_length = original.history_length
        self._backbone = _frozen_copy(original)
        self._users, self._items = len(learner.dirty_users), len(learner.dirty_items)

    @torch.inference_mode()
    def user_vectors(self, context: Context, extra: Tensor | None) -> Tensor:
        """float32 ``[B, width]``; users that the weights do not know are unknown ones."""
        return self._backbone.user_vectors(context, extra)

    @torch.inference_mode()
    def item_vectors(self, items: Tensor, tables: Tables) -> Tensor:
        """float32 ``[n, width]`` of items (int64 ``[n]``), with what the tables hold of them now."""
        vectors = torch.empty(len(items), self.width)
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            part = items[start : start + _ITEMS_AT_ONCE]
            known = part.where(part < self._items, -1)
            vectors[start : start + _ITEMS_AT_ONCE] = self._backbone.item_vectors(known, tables.item_inputs(part))
        return vectors

    def known_users(self, users: Tensor) -> Tensor:
        """The same rows (int64 ``[n]``), -1 for users that came after the weights."""
        return users.where(users < self._users, -1)


def _frozen_copy(original: TwoTower) -> TwoTower:
    backbone: Any = copy.deepcopy(cast(nn.Module, original)).eval().requires_grad_(False)
    tower = getattr(backbone, "user_tower", None)
    if isinstance(tower, nn.Module):
        first = next(module for module in tower.modules() if isinstance(module, nn.Linear))
        backbone.user_tower = FrozenTower(tower, first.in_features)
    return cast(TwoTower, backbone)
