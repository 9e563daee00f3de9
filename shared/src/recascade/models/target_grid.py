"""Targets of packed sequences as rows of equal length, as the ids of a generator stand."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recascade.contracts.context import Context


class TargetGrid(NamedTuple):
    """N targets in a grid of B sequences times n places, n being the most of any sequence.

    ``targets`` int64 ``[B, n]``: which target stands there (surplus places repeat one); ``cells`` int64 ``[N]``: the
    flat place of each target; ``events`` int64 ``[B, n]``: how many events of the sequence come before the target.
    """

    targets: Tensor
    cells: Tensor
    events: Tensor

    @classmethod
    def of(cls, context: Context, positions: Tensor, owners: Tensor | None) -> TargetGrid:
        """Arrange the targets of a ``NextItemBatch`` (its ``positions`` and ``owners``)."""
        at = positions if owners is None else positions[owners]
        rows = context.rows[at]
        counts = torch.bincount(rows, minlength=context.batch_size)
        first = counts.cumsum(0) - counts
        most = int(counts.max())
        column = torch.arange(most, device=at.device)
        targets = first[:, None] + torch.minimum(column, (counts - 1)[:, None])
        targets = targets.clamp(0, len(at) - 1)
        cells = rows * most + torch.arange(len(at), device=at.device) - first[rows]
        before = at - context.offsets[rows] + 1
        return cls(targets, cells, before[targets])
