"""What events leave behind for later events beside weights: vectors of CTS and CMS, histories, popularity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from recascade.models.id_embedding import IdEmbedding
from recascade_cs3.cms import CascadeVectors
from recascade_cs3.config import CS3Config
from recascade_cs3.cts import CrossVectors
from recascade_cs3.histories import RecentPositives
from recascade_cs3.running_mean import RunningMeans


class Tables:
    """All per-user and per-item state that no gradient reaches.

    Args:
        config: of the method.
        user_width: of the user tower's outputs.
        item_width: of the item tower's outputs.
        history_length: latest positives per user that anybody reads.
        seed: of the control ``vectors=random``.
    """

    def __init__(self, config: CS3Config, user_width: int, item_width: int, history_length: int, seed: int = 0) -> None:
        self.cross = CrossVectors(user_width, item_width, config.cts.alpha) if config.cts.enabled else None
        self.cascade = CascadeVectors(config.ranker.width, config.cms.beta) if config.cms.enabled else None
        self.histories = RecentPositives(history_length)
        self.item_positives = torch.zeros(0, dtype=torch.int64)
        self._seed = seed
        self._directions: dict[int, IdEmbedding] = {}
        if config.tables.vectors == "random":
            for means in (*self.user_means, *self.item_means):
                self._directions[id(means)] = IdEmbedding(0, means.width, "user", initial_deviation=1.0)

    @property
    def user_means(self) -> list[RunningMeans]:
        """The users' vectors that are switched on, in the order in which the tower reads them."""
        return [vectors.users for vectors in (self.cross, self.cascade) if vectors is not None]

    @property
    def item_means(self) -> list[RunningMeans]:
        """The items' vectors that are switched on, in the order in which the tower reads them."""
        return [vectors.items for vectors in (self.cross, self.cascade) if vectors is not None]

    @property
    def user_width(self) -> int:
        """Width of ``user_inputs``."""
        return sum(means.width for means in self.user_means)

    @property
    def item_width(self) -> int:
        """Width of ``item_inputs``."""
        return sum(means.width for means in self.item_means)

    def grow(self, users: int, items: int) -> None:
        """Make room for so many users and items."""
        for means in self.user_means:
            means.grow(users)
        for means in self.item_means:
            means.grow(items)
        for number, means in enumerate((*self.user_means, *self.item_means)):
            if id(means) in self._directions:
                self._directions[id(means)].grow(len(means), self._seed + number)
        self.histories.grow(users)
        more = max(items - len(self.item_positives), 0)
        self.item_positives = torch.cat([self.item_positives, torch.zeros(more, dtype=torch.int64)])

    def reset(self) -> None:
        """Forget everything."""
        for means in (*self.user_means, *self.item_means):
            means.reset()
        self.histories.reset()
        self.item_positives.zero_()

    def user_inputs(self, users: Tensor) -> Tensor | None:
        """float32 ``[n, w]``, what the user tower reads beside its own inputs, of int64 ``[n]``, -1 for unknown."""
        return _side_by_side([self._read(means, users) for means in self.user_means])

    def item_inputs(self, items: Tensor) -> Tensor | None:
        """float32 ``[n, w]``, what the item tower reads beside its own inputs, of int64 ``[n]``, -1 for unknown."""
        return _side_by_side([self._read(means, items) for means in self.item_means])

    def _read(self, means: RunningMeans, rows: Tensor) -> Tensor:
        """The stored vectors, or for the control random ones of their lengths, a direction per identifier."""
        stored = means.read(rows)
        if not self._directions:
            return stored
        with torch.no_grad():
            known = rows.where(rows < len(means), -1)
            directions: Tensor = normalize(self._directions[id(means)](known), dim=1)
            lengths: Tensor = torch.linalg.vector_norm(stored, dim=1, keepdim=True)
        return directions * lengths

    def count(self, items: NDArray[np.int64], labels: NDArray[np.float32]) -> None:
        """Count the positives among n events by item."""
        positives = torch.from_numpy(items[labels > 0])
        self.item_positives.index_add_(0, positives, torch.ones_like(positives))

    def log_popularity(self, items: Tensor) -> Tensor:
        """float32 ``[n]``, log of each item's share of the positives so far, one more counted for every item."""
        counts = self.item_positives.index_select(0, items) + 1.0
        return counts.log() - float(np.log(len(self.item_positives) + float(self.item_positives.sum())))

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, the very tensors."""
        named = {"item_positives": self.item_positives}
        for number, means in enumerate(self.user_means):
            named[f"users.{number}"] = means.values
        for number, means in enumerate(self.item_means):
            named[f"items.{number}"] = means.values
        return named | {f"histories.{name}": tensor for name, tensor in self.histories.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self.item_positives = tensors["item_positives"]
        for number, means in enumerate(self.user_means):
            means.values = tensors[f"users.{number}"]
        for number, means in enumerate(self.item_means):
            means.values = tensors[f"items.{number}"]
        prefix = "histories."
        self.histories.restore(
            {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        )


def _side_by_side(blocks: list[Tensor]) -> Tensor | None:
    return torch.cat(blocks, dim=1) if blocks else None
