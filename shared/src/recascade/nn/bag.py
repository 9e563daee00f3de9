"""Sums of rows of a table, several per result."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def bag_sum(table: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Sum of each bag of the table's rows, 0 for an empty bag.

    Args:
        table: ``[N, d]``.
        rows: int64 ``[V]``, the rows of all bags one after the other.
        offsets: int64 ``[n + 1]``, ascending from 0 to V; bag b sums the rows ``offsets[b]`` to ``offsets[b + 1]``.

    Returns:
        ``[n, d]``.
    """
    return cast(Tensor, _BagSum.apply(table, rows, offsets))  # type: ignore[no-untyped-call]


class _BagSum(torch.autograd.Function):
    """PyTorch's bags with a gradient that adds rows up as they come: its own sorts them first, which costs ten times as
    much on a CPU."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(rows, offsets)
        ctx.table_rows = len(table)
        return embedding_bag(rows, table, offsets, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rows, offsets = ctx.saved_tensors
        gradient = gradients[0]
        spread = torch.repeat_interleave(gradient, offsets.diff(), dim=0, output_size=len(rows))
        return gradient.new_zeros(ctx.table_rows, gradient.shape[1]).index_add_(0, rows, spread), None, None
