"""Attention over packed sequences in which every event sees its whole sequence.

PyTorch's CPU kernels drop no attention weights, and their gradient is slow, so training on a CPU goes through tiles as
causal attention does (``recascade.nn.tiled_attention``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.packed import PackedLayout
from recascade.nn.tiled_attention import attend_in_tiles
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
        return attend_in_tiles(query, key, value, layout, _masked_tiles(layout, query), dropout)
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


def _masked_tiles(layout: PackedLayout, query: Tensor) -> list[tuple[Tile, Tensor]]:
    """All tiles, and 0 for events and -inf for empty slots, ``[n, 1, width]``."""
    masked = []
    for index, (group, visible) in enumerate(zip(layout.groups, _visible(layout), strict=True)):
        hidden = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, -torch.inf)
        step = max(1, _SCORES // group.width**2)
        for start in range(0, group.sequences, step):
            chosen = slice(start, min(start + step, group.sequences))
            for head in range(query.shape[1]):
                masked.append((Tile(index, chosen, head, 0, group.width), hidden[chosen, None]))
    return masked
