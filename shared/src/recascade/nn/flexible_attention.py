"""Causal attention over packed sequences through PyTorch's FlexAttention: one kernel, no padding.

A block mask says which blocks of keys a block of queries must visit at all; inside a block the mask is evaluated cell
by cell. Blocks of a packed batch follow from its offsets, so none of the T x T cells is looked at to find them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from recascade.nn.packed import PackedLayout

# Queries and keys of a block: FlexAttention's own default.
_BLOCK = 128


def flexible_attention(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout) -> Tensor:
    """``recascade.nn.attention.causal_attention`` without dropout; same arguments, same result.

    The gradient needs an accelerator: PyTorch has none for FlexAttention on a CPU.
    """
    attend = flex_attention if torch.compiler.is_compiling() else _compiled()
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    attended: Tensor = attend(query, key, value, block_mask=causal_block_mask(layout))
    return attended[0].transpose(0, 1)


def causal_block_mask(layout: PackedLayout) -> BlockMask:
    """Blocks of 128 events: each visits itself and those before it, back to where its first event's sequence begins."""
    rows, events = layout.rows, layout.rows.shape[0]
    blocks = -(-events // _BLOCK)
    numbers = torch.arange(blocks, device=rows.device, dtype=torch.int32)
    starts = layout.offsets.index_select(0, rows[::_BLOCK])
    first = (starts // _BLOCK).int()
    # Places behind the last visited block are never read; they only have to be blocks.
    visited = (first[:, None] + numbers).clamp(max=blocks - 1)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (rows[query] == rows[key])

    return BlockMask.from_kv_blocks(
        (numbers - first + 1)[None, None],
        visited[None, None],
        BLOCK_SIZE=_BLOCK,
        mask_mod=sees,
        seq_lengths=(events, events),
    )


@cache
def _compiled() -> Any:
    """The kernel for use outside of a compiled model: it compiles by itself, once for all sizes. Made when it is first
    needed, since loading the compiler takes half a second and 50 MB from everyone who imports a model."""
    return torch.compile(flex_attention, dynamic=True)
