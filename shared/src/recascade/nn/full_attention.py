"""Attention over packed sequences in which every event sees its whole sequence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.dropout import dropout as drop
from recascade.nn.packed import PackedLayout


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
    outputs = [value[:0]]
    lengths = layout.lengths.index_select(0, layout.occupied)
    first = 0
    padded = (layout.rectangles(layout.pad(tensor)) for tensor in (query, key, value))
    for rectangle in zip(*padded, strict=True):
        q, k, v = (tensor.transpose(1, 2) for tensor in rectangle)
        width = q.shape[2]
        visible = torch.arange(width, device=q.device) < lengths[first : first + len(q), None]
        first += len(q)
        if torch.is_grad_enabled():
            # PyTorch's CPU kernel has no dropout of weights, and its gradient is slower than this one.
            scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3))
            scores = scores.masked_fill(~visible[:, None, None], -torch.inf)
            attended = torch.matmul(drop(scores.softmax(-1), dropout), v)
        else:
            attended = scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None], dropout_p=dropout)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return layout.unpad(torch.cat(outputs))
