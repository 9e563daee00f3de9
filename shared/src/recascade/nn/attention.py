"""Causal multi-head attention over packed sequences.

Where rectangles are padded, pads stand to the right, so the causal rule alone hides them from every real event and no
padding mask exists.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.flexible_attention import flexible_attention
from recascade.nn.packed import PackedLayout
from recascade.nn.tiled_attention import tiled_attention

# Narrower heads are refused by PyTorch's compiled flexible attention.
_LEAST_FLEXIBLE_WIDTH = 16


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, *, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention in which each event sees itself and the earlier events of its own sequence.

    Vaswani et al. 2017, equation 1, with the causal mask. Equal results, by whatever is fastest where it runs:

    - training on a CPU: ``recascade.nn.tiled_attention``, because PyTorch's kernels have no dropout there and a slow
      gradient;
    - on CUDA without dropout: packed events as they are, in half precision PyTorch's FlashAttention for sequences of
      various lengths, otherwise ``recascade.nn.flexible_attention``, each where it takes the width of the heads and the
      GPU;
    - else (neither of the two drops weights or differentiates on a CPU): rectangles, by PyTorch's fused kernels.

    Args:
        query: ``[T, H, D]``, H heads of width D for T packed events.
        key: ``[T, H, D]``.
        value: ``[T, H, D]``.
        layout: of the T events.
        dropout: share of attention weights set to 0 (the others grow by 1 / (1 - dropout)); pass 0 outside training.

    Returns:
        ``[T, H, D]``.
    """
    if query.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return tiled_attention(query, key, value, layout, dropout=dropout)
    if query.is_cuda and dropout == 0.0:
        half = query.dtype in (torch.float16, torch.bfloat16)
        if not half and query.shape[2] >= _LEAST_FLEXIBLE_WIDTH:
            return flexible_attention(query, key, value, layout)
        if half and _flash_takes(query):
            offsets = layout.offsets.int()
            # A window without places to the right is the causal mask.
            attended = varlen_attn(query, key, value, offsets, offsets, layout.width, layout.width, window_size=(-1, 0))
            return cast(Tensor, attended)
    if not layout.groups:
        return torch.zeros_like(value)
    outputs = []
    padded = (layout.rectangles(layout.pad(tensor)) for tensor in (query, key, value))
    for rectangle in zip(*padded, strict=True):
        q, k, v = (tensor.transpose(1, 2) for tensor in rectangle)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return layout.unpad(outputs[0] if len(outputs) == 1 else torch.cat(outputs))


def _flash_takes(query: Tensor) -> bool:
    """Whether FlashAttention has a kernel for heads of this width on this GPU (from Ampere on)."""
    width = query.shape[2]
    return width % 8 == 0 and width <= 256 and _capability(query.device) >= (8, 0)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _capability(device: torch.device) -> tuple[int, int]:
    """Of the GPU; a compiler that met the call itself would break the graph."""
    return torch.cuda.get_device_capability(device)


def newest_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, *, dropout: float = 0.0
) -> Tensor:
    """Attention of the newest event of each sequence alone: the rows ``layout.newest`` of ``causal_attention``.

    Args:
        query: ``[N, H, D]``, of the newest events of the N sequences that have any, in the order of ``layout.newest``.
        key: ``[T, H, D]``.
        value: ``[T, H, D]``.
        layout: of the T events.
        dropout: as in ``causal_attention``.

    Returns:
        ``[N, H, D]``.
    """
    outputs = [query[:0]]
    lengths = layout.lengths.index_select(0, layout.occupied)
    first = 0
    for keys, values in zip(layout.rectangles(layout.pad(key)), layout.rectangles(layout.pad(value)), strict=True):
        chosen = slice(first, first + len(keys))
        visible = torch.arange(keys.shape[1], device=keys.device) < lengths[chosen, None]
        attended = scaled_dot_product_attention(
            query[chosen, :, None],
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=visible[:, None, None],
            dropout_p=dropout,
        )
        outputs.append(attended[:, :, 0])
        first += len(keys)
    return torch.cat(outputs)
