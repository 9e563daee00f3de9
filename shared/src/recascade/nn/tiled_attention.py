"""Attention for training on a CPU: batched matrix products over tiles that stay in the second-level cache.

PyTorch's CPU kernels drop no attention weights, or else fall back to one pass through memory per operation. Here the
scores of a few sequences, and under the causal rule of as many keys as the tile's newest query may see, are finished
before the next tile begins. The probabilities are kept for the gradient, which recomputes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from recascade.nn.dropout import dropout_noise
from recascade.nn.packed import PackedLayout
from recascade.nn.tiles import Tile, tiles


def tiled_attention(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, *, dropout: float = 0.0) -> Tensor:
    """The CPU training path of ``recascade.nn.attention.causal_attention``; same arguments, same result."""
    later = torch.full((layout.width, layout.width), -torch.inf, dtype=query.dtype).triu_(1)
    masked = [
        (tile, later[tile.first : tile.last, : tile.last]) for tile in tiles(layout, query.shape[1], query.device)
    ]
    return attend_in_tiles(query, key, value, layout, masked, dropout)


def attend_in_tiles(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    masked_tiles: Sequence[tuple[Tile, Tensor]],
    dropout: float,
) -> Tensor:
    """Attention whose score matrices are these tiles.

    Args:
        query: ``[T, H, D]``.
        key: ``[T, H, D]``.
        value: ``[T, H, D]``.
        layout: of the T events.
        masked_tiles: together every query of every head, each with what is added to the scores ``[n, queries, keys]``.
        dropout: share of attention weights set to 0.

    Returns:
        ``[T, H, D]``.
    """
    attended = _TiledAttention.apply(query, key, value, layout, masked_tiles, dropout)  # type: ignore[no-untyped-call]
    return cast(Tensor, attended)


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: PackedLayout,
        masked_tiles: Sequence[tuple[Tile, Tensor]],
        rate: float,
    ) -> Tensor:
        scale = query.shape[2] ** -0.5
        padded = [tensor.index_select(0, layout.slots) for tensor in (query, key, value)]
        queries, keys, values = (layout.rectangles(tensor) for tensor in padded)
        attended = torch.empty_like(padded[0])
        outputs = layout.rectangles(attended)
        kept: list[Tensor] = []
        for tile, mask in masked_tiles:
            scores = torch.baddbmm(mask, tile.queries(queries), tile.keys(keys).transpose(1, 2), alpha=scale)
            probabilities = torch.softmax(scores, 2)
            weights = dropout_noise(scores, rate).mul_(probabilities) if rate else probabilities
            tile.queries(outputs).copy_(torch.bmm(weights, tile.keys(values)))
            kept += [probabilities, weights] if rate else [probabilities]
        ctx.layout, ctx.tiles, ctx.rate = layout, [tile for tile, _ in masked_tiles], rate
        result = attended.index_select(0, layout.places)
        ctx.save_for_backward(*padded, result, *kept)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout, rate = ctx.layout, ctx.rate
        padded_query, padded_key, padded_value, result, *kept = ctx.saved_tensors
        scale = result.shape[2] ** -0.5
        padded_gradient = torch.zeros_like(padded_query).index_copy_(0, layout.places, gradients[0])
        # Softmax's gradient subtracts each query's mean of the weights' gradients, which equals output · gradient.
        means = torch.zeros(*padded_query.shape[:2], 1, dtype=result.dtype)
        means.index_copy_(0, layout.places, torch.linalg.vecdot(result, gradients[0])[..., None])
        grown = [torch.empty_like(padded_query), torch.zeros_like(padded_key), torch.zeros_like(padded_value)]
        queries, keys, values, outer, mean = (
            layout.rectangles(tensor) for tensor in (padded_query, padded_key, padded_value, padded_gradient, means)
        )
        query_gradients, key_gradients, value_gradients = (layout.rectangles(tensor) for tensor in grown)
        saved = iter(kept)
        for tile in ctx.tiles:
            probabilities = next(saved)
            weights = next(saved) if rate else probabilities
            gradient = tile.queries(outer)
            tile.keys(value_gradients).add_(torch.bmm(weights.transpose(1, 2), gradient))
            errors = torch.bmm(gradient, tile.keys(values).transpose(1, 2))
            if rate:
                errors.mul_(weights).addcmul_(probabilities, tile.queries(mean), value=-1.0)
            else:
                errors.sub_(tile.queries(mean)).mul_(probabilities)
            tile.queries(query_gradients).copy_(torch.bmm(errors, tile.keys(keys)))
            tile.keys(key_gradients).add_(torch.bmm(errors.transpose(1, 2), tile.queries(queries)))
        grown[0].mul_(scale)
        grown[1].mul_(scale)
        packed = (gradient.index_select(0, layout.places) for gradient in grown)
        return (*packed, None, None, None)
