"""Sums and means of rows of a table, several per result."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def bag_sum(table: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of each bag of the table's rows, 0 for an empty bag.

    Args:
        table: ``[N, d]``.
        rows: int64 ``[V]``, the rows of all bags one after the other.
        offsets: int64 ``[n + 1]``, ascending from 0 to V; bag b sums the rows ``offsets[b]`` to ``offsets[b + 1]``.
        weights: ``[V]``, constant factors of the rows; None for 1.

    Returns:
        ``[n, d]``.
    """
    return cast(Tensor, _BagSum.apply(table, rows, offsets, weights))  # type: ignore[no-untyped-call]


def bag_mean(table: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Mean of each bag of the table's rows, 0 for an empty bag; arguments and result as for ``bag_sum``."""
    return bag_sum(table, rows, offsets) / offsets.diff().clamp(min=1)[:, None]


class _BagSum(torch.autograd.Function):
    """PyTorch's bags with a gradient that adds rows up as they come: its own sorts them first, which costs several
    times as much on a CPU."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, offsets, weights)
        ctx.table_rows = len(table)
        return embedding_bag(rows, table, offsets, mode="sum", include_last_offset=True, per_sample_weights=weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        rows, offsets, weights = ctx.saved_tensors
        gradient = gradients[0]
        spread = torch.repeat_interleave(gradient, offsets.diff(), dim=0, output_size=len(rows))
        if weights is not None:
            spread.mul_(weights[:, None])
        table = gradient.new_zeros(ctx.table_rows, gradient.shape[1]).index_add_(0, rows, spread)
        return table, None, None, None
