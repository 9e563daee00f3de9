"""Vectors per identifier that follow what is written to them as exponential running means, exactly and without
gradients.

Writing m values v_1 … v_m (oldest first) to one row, one after the other, by ``row ← r row + (1 - r) v`` gives

    row ← r^m row + (1 - r) Σ_j r^(m - j) v_j

which is computed here for all rows of a batch at once. A scatter that keeps the last write would lose the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Occurrences:
    """Which of n writes go to the same row, and how many come after each.

    Attributes:
        rows: int64 ``[k]``, the distinct rows.
        groups: int64 ``[n]``, index in ``rows`` of each write.
        counts: int64 ``[k]``, writes per distinct row.
        later: int64 ``[n]``, writes to the same row that come after this one.
    """

    rows: Tensor
    groups: Tensor
    counts: Tensor
    later: Tensor

    @classmethod
    def of(cls, rows: NDArray[np.int64]) -> Occurrences:
        """Count n writes, in the order in which they happen, oldest first.

        Args:
            rows: int64 ``[n]``.
        """
        # numpy.unique would sort once more to tell the groups, and costs twice this at the size of a micro-batch.
        order = rows.argsort(kind="stable")
        ordered = rows[order]
        begins = np.flatnonzero(np.concatenate([ordered[:1] == ordered[:1], ordered[1:] != ordered[:-1]]))
        counts = np.append(begins[1:], len(rows)) - begins if len(rows) else begins
        groups, later = np.empty_like(order), np.empty_like(order)
        groups[order] = np.repeat(np.arange(len(begins)), counts)
        later[order] = np.repeat(begins + counts - 1, counts) - np.arange(len(rows))
        tensors = (torch.from_numpy(array) for array in (ordered[begins], groups, counts, later))
        return cls(*tensors)


class RunningMeans:
    """A table of running means, one row per user or item; row 0 stands for unknown ones and stays zero.

    Never part of an autograd graph: reading gives constants.

    Args:
        width: of the vectors.
        retention: r in [0, 1), the share of the old value that a write keeps.
    """

    def __init__(self, width: int, retention: float) -> None:
        self.width = width
        self.retention = retention
        self.values = torch.zeros(1, width)

    def __len__(self) -> int:
        return len(self.values) - 1

    def grow(self, count: int) -> None:
        """Make room for ``count`` identifiers; new rows are zero. Never shrinks."""
        if count > len(self):
            self.values = torch.cat([self.values, torch.zeros(count - len(self), self.width)])

    def read(self, rows: Tensor) -> Tensor:
        """float32 ``[n, width]`` of these identifiers (int64 ``[n]``); zeros for -1 and for those beyond the table."""
        places = torch.where(rows < len(self), rows + 1, 0)
        return self.values.index_select(0, places)

    def write(self, occurrences: Occurrences, values: Tensor) -> None:
        """Let n values in, oldest first (float32 ``[n, width]``), each into the row that ``occurrences`` names.

        Every row must be in the table already (``grow``).
        """
        retention = self.retention
        weights = (1 - retention) * retention ** occurrences.later.to(values.dtype)
        places = occurrences.rows + 1
        kept = self.values.index_select(0, places) * (retention ** occurrences.counts.to(values.dtype))[:, None]
        kept.index_add_(0, occurrences.groups, values.detach() * weights[:, None])
        self.values.index_copy_(0, places, kept)

    def reset(self) -> None:
        """Forget everything."""
        self.values.zero_()
