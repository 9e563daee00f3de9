"""Sum and softmax over each packed sequence."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def packed_sum(vectors: Tensor, offsets: Tensor) -> Tensor:
    """Sum of the vectors of each sequence, 0 for an empty one.

    Args:
        vectors: ``[T, d]``, packed.
        offsets: int64 ``[B + 1]``, ascending from 0 to T.

    Returns:
        ``[B, d]``.
    """
    return cast(Tensor, _PackedSum.apply(vectors, offsets))  # type: ignore[no-untyped-call]


def packed_softmax(logits: Tensor, offsets: Tensor, rows: Tensor) -> Tensor:
    """Softmax over the events of each sequence, column by column.

    Args:
        logits: ``[T, k]``, packed.
        offsets: int64 ``[B + 1]``, ascending from 0 to T.
        rows: int64 ``[T]``, the sequence of each event.

    Returns:
        ``[T, k]``; each column of each sequence sums to 1.
    """
    detached = logits.detach()
    greatest = detached.new_full((len(offsets) - 1, logits.shape[1]), -torch.inf)
    greatest.scatter_reduce_(0, rows[:, None].expand_as(detached), detached, "amax")
    weights = (logits - greatest.index_select(0, rows)).exp()
    return weights / packed_sum(weights, offsets).index_select(0, rows)


class _PackedSum(torch.autograd.Function):
    """Every vector is in one sequence only, so the gradient is a copy of its sequence's."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(offsets)
        ctx.events = len(vectors)
        events = torch.arange(len(vectors), device=vectors.device)
        return embedding_bag(events, vectors, offsets, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (offsets,) = ctx.saved_tensors
        return torch.repeat_interleave(gradients[0], offsets.diff(), dim=0, output_size=ctx.events), None
