"""Attention over packed sequences in which every event sees its whole sequence.

PyTorch's CPU kernels drop no attention weights, and their gradient is slow, so training on a CPU goes through tiles as
causal attention does (``recascade.nn.tiled_attention``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.dropout import dropout_noise
from recascade.nn.packed import PackedLayout
from recascade.nn.tiles import Tile

# Scores in a tile on a CPU: they fit 1 MB of second-level cache beside their probabilities. Our choice.
_SCORES = 1 << 17


def full_attention(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, *, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention of each event to all events of its own sequence (Vaswani et al. 2017, equation 1).

    Args:
        query: ``[T, H, D]``, H heads of width D for T packed events.
        key: ``[T, H, D]``.
        value: ``[T, H, D]``.
        layout: of the T events.
        dropout: share of attention weights set to 0 (the others grow by 1 / (1 - dropout)); pass 0 outside training.

    Returns:
        ``[T, H, D]``.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled():
        return cast(Tensor, _FullAttention.apply(query, key, value, layout, dropout))  # type: ignore[no-untyped-call]
    outputs = [value[:0]]
    padded = (layout.rectangles(layout.pad(tensor)) for tensor in (query, key, value))
    for visible, *rectangle in zip(_visible(layout), *padded, strict=True):
        q, k, v = (tensor.transpose(1, 2) for tensor in rectangle)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None], dropout_p=dropout)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return layout.unpad(torch.cat(outputs))


def _visible(layout: PackedLayout) -> list[Tensor]:
    """bool ``[sequences, width]`` per rectangle: which slots hold events."""
    lengths = layout.lengths.index_select(0, layout.occupied)
    parts = lengths.split([group.sequences for group in layout.groups])  # type: ignore[no-untyped-call]
    columns = torch.arange(layout.width, device=lengths.device)
    return [columns[: group.width] < part[:, None] for group, part in zip(layout.groups, parts, strict=True)]


def _tiles(layout: PackedLayout, heads: int) -> Iterator[Tile]:
    for index, group in enumerate(layout.groups):
        step = max(1, _SCORES // group.width**2)
        for start in range(0, group.sequences, step):
            for head in range(heads):
                yield Tile(index, slice(start, min(start + step, group.sequences)), head, 0, group.width)


class _FullAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, rate: float) -> Tensor:
        heads, depth = query.shape[1:]
        padded = [tensor.index_select(0, layout.slots) for tensor in (query, key, value)]
        queries, keys, values = (layout.rectangles(tensor) for tensor in padded)
        attended = torch.empty_like(padded[0])
        outputs = layout.rectangles(attended)
        hidden = [
            torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, -torch.inf)
            for visible in _visible(layout)
        ]
        kept: list[Tensor] = []
        for tile in _tiles(layout, heads):
            mask = hidden[tile.group][tile.sequences, None]
            scores = torch.baddbmm(mask, tile.queries(queries), tile.keys(keys).transpose(1, 2), alpha=depth**-0.5)
            probabilities = torch.softmax(scores, 2)
            weights = dropout_noise(scores, rate).mul_(probabilities) if rate else probabilities
            tile.queries(outputs).copy_(torch.bmm(weights, tile.keys(values)))
            kept += [probabilities, weights] if rate else [probabilities]
        ctx.layout, ctx.rate = layout, rate
        result = attended.index_select(0, layout.places)
        ctx.save_for_backward(*padded, result, *kept)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        layout, rate = ctx.layout, ctx.rate
        padded_query, padded_key, padded_value, result, *kept = ctx.saved_tensors
        heads, depth = result.shape[1:]
        padded_gradient = torch.zeros_like(padded_query).index_copy_(0, layout.places, gradients[0])
        # Softmax's gradient subtracts each query's mean of the weights' gradients, which equals output · gradient.
        means = torch.zeros(*padded_query.shape[:2], 1, dtype=result.dtype)
        means.index_copy_(0, layout.places, torch.linalg.vecdot(result, gradients[0])[..., None])
        grown = [torch.empty_like(tensor) for tensor in (padded_query, padded_key, padded_value)]
        queries, keys, values, outer, mean = (
            layout.rectangles(tensor) for tensor in (padded_query, padded_key, padded_value, padded_gradient, means)
        )
        query_gradients, key_gradients, value_gradients = (layout.rectangles(tensor) for tensor in grown)
        saved = iter(kept)
        for tile in _tiles(layout, heads):
            probabilities = next(saved)
            weights = next(saved) if rate else probabilities
            gradient = tile.queries(outer)
            tile.keys(value_gradients).copy_(torch.bmm(weights.transpose(1, 2), gradient))
            errors = torch.bmm(gradient, tile.keys(values).transpose(1, 2))
            if rate:
                errors.mul_(weights).addcmul_(probabilities, tile.queries(mean), value=-1.0)
            else:
                errors.sub_(tile.queries(mean)).mul_(probabilities)
            tile.queries(query_gradients).copy_(torch.bmm(errors, tile.keys(keys)))
            tile.keys(key_gradients).copy_(torch.bmm(errors.transpose(1, 2), tile.queries(queries)))
        grown[0].mul_(depth**-0.5)
        grown[1].mul_(depth**-0.5)
        return (*(gradient.index_select(0, layout.places) for gradient in grown), None, None)
