"""The towers as a service uses them: weights of one moment, which never change, under a version."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.dssm import DSSM
from recascade.models.two_tower import Similarity, TwoTower, compared_by
from recascade.serving.numpy_tower import NumpyTower
from recascade_cs3.histories import RecentPositives
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.tables import Tables

_ROWS_AT_ONCE = 8192
_NO_EVENTS = torch.zeros(0, dtype=torch.int64)


class ServingModel:
    """A copy of both towers.

    The user tower of a DSSM without history reads, beside the tables, only what the weights say of the user. These
    inputs are computed once for all users (4 bytes × users × their width), so that a request takes one row of them and
    one run of the tower. Other backbones go their own way and end in the tower.

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
        self._users, self._items = len(learner.dirty_users), len(learner.dirty_items)
        backbone: Any = copy.deepcopy(cast(nn.Module, original)).eval().requires_grad_(False)
        self._backbone = cast(TwoTower, backbone)
        self._inputs: NDArray[np.float32] | None = None
        tower = getattr(backbone, "user_tower", None)
        if isinstance(backbone, DSSM) and not backbone.history_length:
            self._inputs = _inputs_of_all(backbone, self._users)
            compared = nn.Sequential(backbone.user_tower, _Compared(backbone.similarity))
            self._tower = NumpyTower(compared, _input_width(backbone.user_tower))
        elif isinstance(tower, nn.Module):
            backbone.user_tower = NumpyTower(tower, _input_width(tower))

    def user_vectors(
        self, rows: NDArray[np.int64], blocks: list[NDArray[np.float32]], histories: RecentPositives | None
    ) -> Tensor:
        """float32 ``[B, width]``.

        Args:
            rows: int64 ``[B]``, -1 for unknown users.
            blocks: what the tables hold of these users, each float32 ``[B, w]``.
            histories: where a user tower that reads histories finds them.
        """
        if self._inputs is not None and len(rows) == 1:
            # What a request waits for: each operator, and each way between NumPy and PyTorch, costs microseconds.
            row = int(rows[0])
            own = self._inputs[row + 1 if row < self._users else 0]
            return torch.from_numpy(self._tower.of_one(np.concatenate([own, *(block[0] for block in blocks)]))[None])
        return self._of_several(rows, blocks, histories)

    @torch.inference_mode()
    def _of_several(
        self, rows: NDArray[np.int64], blocks: list[NDArray[np.float32]], histories: RecentPositives | None
    ) -> Tensor:
        # Users that came after the weights are unknown to them, though not to the tables.
        known = np.where(rows < self._users, rows, -1)
        if self._inputs is not None:
            inputs = np.concatenate([self._inputs[known + 1], *blocks], axis=1)
            return cast(Tensor, self._tower(torch.from_numpy(inputs)))
        extra = torch.from_numpy(np.concatenate(blocks, axis=1)) if blocks else None
        users = torch.from_numpy(known)
        if histories is None:
            context = Context(users, _NO_EVENTS, _NO_EVENTS, torch.zeros(len(rows) + 1, dtype=torch.int64))
        else:
            context = replace(histories.context(torch.from_numpy(rows)), users=users)
        return self._backbone.user_vectors(context, extra)

    @torch.inference_mode()
    def item_vectors(self, items: Tensor, tables: Tables) -> Tensor:
        """float32 ``[n, width]`` of items (int64 ``[n]``), with what the tables hold of them now."""
        vectors = torch.empty(len(items), self.width)
        for start in range(0, len(items), _ROWS_AT_ONCE):
            part = items[start : start + _ROWS_AT_ONCE]
            known = part.where(part < self._items, -1)
            vectors[start : start + _ROWS_AT_ONCE] = self._backbone.item_vectors(known, tables.item_inputs(part))
        return vectors


class _Compared(nn.Module):
    """The end of a tower, as a module, so that it is rewritten with the tower."""

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, vectors: Tensor) -> Tensor:
        return compared_by(self.similarity, vectors)


def _input_width(tower: nn.Module) -> int:
    return next(module.in_features for module in tower.modules() if isinstance(module, nn.Linear))


@torch.inference_mode()
def _inputs_of_all(backbone: DSSM, users: int) -> NDArray[np.float32]:
    """float32 ``[1 + users, w]``, identity and features side by side, of the unknown user first."""
    inputs = torch.empty(1 + users, backbone.user_inputs.own_width)
    for start in range(-1, users, _ROWS_AT_ONCE):
        rows = torch.arange(start, min(start + _ROWS_AT_ONCE, users))
        own = backbone.user_inputs.own(rows)
        if own:
            inputs[start + 1 : start + 1 + len(rows)] = torch.cat(own, 1)
    return inputs.numpy()
