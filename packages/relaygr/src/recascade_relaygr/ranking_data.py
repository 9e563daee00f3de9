"""Training batches for a ranker: next-item batches that also know when the target came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.data.events import ranges
from recascade.data.next_item import NextItemBatch, NextItemData


@dataclass(frozen=True)
class RankingBatch(NextItemBatch):
    """Adds ``times``, int64 ``[P]``, seconds: when the targets of each position came, which a request knows as its own
    time."""

    times: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> RankingBatch:
        """The same batch on another device."""
        moved = super().to(device, non_blocking=non_blocking)
        times = None if self.times is None else self.times.to(device, non_blocking=non_blocking)
        return RankingBatch(moved.context, moved.positions, moved.targets, moved.owners, times)


class RankingData(NextItemData):
    """See ``NextItemData``; its batches are ``RankingBatch``."""

    def training_batch(self, indices: NDArray[np.int64]) -> RankingBatch:
        """The batch of the given windows (int64 ``[B]``, rows of ``self.windows``)."""
        batch = super().training_batch(indices)
        events = ranges(self.windows.starts[indices], self.windows.lengths[indices])
        following = events[batch.positions.numpy()] + 1
        times = torch.from_numpy(self._timestamps[following])
        return RankingBatch(batch.context, batch.positions, batch.targets, batch.owners, times)
