"""HSTU's attention: SiLU of each score instead of a softmax, with biases by distance in positions and in time.

Zhai et al., ICML 2024, arXiv 2402.17152, equation 2. Forward and gradient go tile by tile, with no ``[B, L, L]`` bias.
FlexAttention cannot take their place, because it always divides by the sum of the exponentials of the scores. While
``torch.compile`` traces, the equation stands there in whole rectangles, for the compiler to fuse.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import silu

from recascade.nn.packed import PackedLayout
from recascade.nn.tiles import tiles

# The released code's bucket of a time difference is its natural logarithm divided by this.
_LOG_BUCKET = 0.301


def time_buckets(timestamps: Tensor, layout: PackedLayout, count: int) -> list[Tensor]:
    """Bucket of the time from each key to each query, ``floor(ln(max(1, seconds)) / 0.301)`` but at most ``count - 1``.

    The release measures from the time of the event *after* the query, which is that of the target; here a state knows
    nothing later than its own event.

    Args:
        timestamps: int64 ``[T]``, seconds.
        layout: of the T events.
        count: number of buckets.

    Returns:
        For each tile of one head (or, while ``torch.compile`` traces, for each rectangle), int32
        ``[n * queries * keys]``.
    """
    rectangles = [times[:, :, None] for times in layout.rectangles(timestamps.index_select(0, layout.slots))]
    if torch.compiler.is_compiling():
        return [_buckets(times[:, :, 0], times[:, :, 0], count) for times in rectangles]
    tiled = tiles(layout, 1, timestamps.device)
    return [_buckets(tile.queries(rectangles), tile.keys(rectangles), count) for tile in tiled]


def _buckets(queries: Tensor, keys: Tensor, count: int) -> Tensor:
    seconds = queries[:, :, None] - keys[:, None, :]
    logarithms = seconds.float().clamp_(min=1.0).log_().mul_(1.0 / _LOG_BUCKET)
    return logarithms.clamp_(max=count - 1).to(torch.int32).flatten()


def pointwise_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    *,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    buckets: list[Tensor] | None = None,
) -> Tensor:
    """``SiLU(Q K^T + bias) V`` over each event itself and the earlier events of its own sequence, not normalised.

    Args:
        query: ``[T, H, D]``.
        key: ``[T, H, D]``.
        value: ``[T, H, E]``.
        layout: of the T events.
        position_bias: ``[max_length]``, by distance in positions, or None.
        time_bias: ``[count]``, by time bucket, or None.
        buckets: from ``time_buckets``, where there is a ``time_bias``.

    Returns:
        ``[T, H, E]``.
    """
    if torch.compiler.is_compiling():
        return _in_rectangles(query, key, value, layout, position_bias, time_bias, buckets)
    differentiable = torch.is_grad_enabled()
    arguments = (query, key, value, position_bias, time_bias, layout, buckets, differentiable)
    return cast(Tensor, _PointwiseAttention.apply(*arguments))  # type: ignore[no-untyped-call]


def _in_rectangles(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    buckets: list[Tensor] | None,
) -> Tensor:
    padded = (layout.rectangles(layout.pad(tensor)) for tensor in (query, key, value))
    outputs = []
    for number, rectangle in enumerate(zip(*padded, strict=True)):
        queries, keys, values = (tensor.transpose(1, 2) for tensor in rectangle)
        scores = torch.matmul(queries, keys.transpose(2, 3))
        width = scores.shape[2]
        if position_bias is not None:
            scores = scores + position_bias[_distances(width, position_bias)]
        if time_bias is not None and buckets is not None:
            scores = scores + time_bias.index_select(0, buckets[number]).view(-1, 1, width, width)
        outputs.append(torch.matmul(silu(scores).tril(), values).transpose(1, 2).flatten(0, 1))
    return layout.unpad(outputs[0] if len(outputs) == 1 else torch.cat(outputs))


class _PointwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position_bias: Tensor | None,
        time_bias: Tensor | None,
        layout: PackedLayout,
        buckets: list[Tensor] | None,
        differentiable: bool,
    ) -> Tensor:
        padded = [tensor.index_select(0, layout.slots) for tensor in (query, key, value)]
        queries, keys, values = (layout.rectangles(tensor) for tensor in padded)
        attended = torch.empty_like(padded[2])
        outputs = layout.rectangles(attended)
        by_distance = None if position_bias is None else position_bias[_distances(layout.width, position_bias)]
        kept: list[Tensor] = []
        heads = query.shape[1]
        for number, tile in enumerate(tiles(layout, heads, query.device)):
            scores = torch.bmm(tile.queries(queries), tile.keys(keys).transpose(1, 2))
            if by_distance is not None:
                scores += by_distance[tile.first : tile.last, : tile.last]
            if time_bias is not None and buckets is not None:
                scores += time_bias.index_select(0, buckets[number // heads]).view_as(scores)
            weights = silu(scores).tril_(tile.first)
            tile.queries(outputs).copy_(torch.bmm(weights, tile.keys(values)))
            if differentiable:
                kept += [scores, weights]
        ctx.layout, ctx.buckets = layout, buckets
        ctx.save_for_backward(*padded, position_bias, time_bias, *kept)
        return attended.index_select(0, layout.places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout, buckets = ctx.layout, ctx.buckets
        padded_query, padded_key, padded_value, position_bias, time_bias, *kept = ctx.saved_tensors
        padded_gradient = torch.zeros_like(padded_value).index_copy_(0, layout.places, gradients[0])
        grown = [torch.empty_like(padded_query), torch.zeros_like(padded_key), torch.zeros_like(padded_value)]
        queries, keys, values, outer = (
            layout.rectangles(tensor) for tensor in (padded_query, padded_key, padded_value, padded_gradient)
        )
        query_gradients, key_gradients, value_gradients = (layout.rectangles(tensor) for tensor in grown)
        by_distance = None if position_bias is None else position_bias.new_zeros(layout.width, layout.width)
        time_gradient = None if time_bias is None else torch.zeros_like(time_bias)
        heads = padded_query.shape[1]
        for number, tile in enumerate(tiles(layout, heads, padded_query.device)):
            scores, weights = kept[2 * number], kept[2 * number + 1]
            gradient = tile.queries(outer)
            tile.keys(value_gradients).add_(torch.bmm(weights.transpose(1, 2), gradient))
            errors = torch.bmm(gradient, tile.keys(values).transpose(1, 2)).tril_(tile.first)
            errors = torch.ops.aten.silu_backward(errors, scores)
            tile.queries(query_gradients).copy_(torch.bmm(errors, tile.keys(keys)))
            tile.keys(key_gradients).add_(torch.bmm(errors.transpose(1, 2), tile.queries(queries)))
            if by_distance is not None:
                by_distance[tile.first : tile.last, : tile.last] += errors.sum(0)
            if time_gradient is not None:
                places = buckets[number // heads]
                if places.is_cpu:
                    summed = torch.bincount(places, errors.flatten(), len(time_gradient))
                    time_gradient += summed.to(time_gradient.dtype)
                else:
                    # An accelerator's bincount makes the host wait for the greatest place.
                    time_gradient.index_add_(0, places, errors.flatten().to(time_gradient.dtype))
        position_gradient = None
        if by_distance is not None:
            distances = _distances(layout.width, position_bias).flatten()
            position_gradient = torch.zeros_like(position_bias).index_add_(0, distances, by_distance.flatten())
        packed = (gradient.index_select(0, layout.places) for gradient in grown)
        return (*packed, position_gradient, time_gradient, None, None, None)


def _distances(width: int, position_bias: Tensor) -> Tensor:
    """int64 ``[width, width]``: positions from the key (column) to the query (row).

    Later keys and pads beyond the last position, which no real event sees, get the nearest distance that has a bias.
    """
    steps = torch.arange(width, device=position_bias.device)
    return (steps[:, None] - steps[None, :]).clamp_(min=0, max=len(position_bias) - 1)
