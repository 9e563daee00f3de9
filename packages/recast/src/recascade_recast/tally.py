"""Figures of many steps, added up without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Tally:
    """Means since they were last taken, and totals since the beginning.

    Attributes:
        totals: name → sum.
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, figures: Mapping[str, Tensor | float]) -> None:
        """One value of each figure (scalars)."""
        for name, value in figures.items():
            total, count = self._sums.get(name, (torch.zeros(()), 0))
            self._sums[name] = (total + torch.as_tensor(value).detach(), count + 1)

    def add_total(self, name: str, value: float) -> None:
        """Add to a total."""
        self.totals[name] = self.totals.get(name, 0.0) + value

    def state(self) -> dict[str, tuple[float, int]]:
        """Name → sum and count behind the next mean, as plain numbers for a checkpoint."""
        return {name: (float(total), count) for name, (total, count) in self._sums.items()}

    def load_state(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Go on from a state."""
        self._sums = {name: (torch.tensor(total), count) for name, (total, count) in state.items()}

    def take_means(self) -> dict[str, float]:
        """The mean of each figure over the times it was added; begins anew."""
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means
