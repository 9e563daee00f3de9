"""Blocks of slots, and what each block may see (Wang, Zhang and Chen, EMNLP 2018: the relaxed causal mask)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def block_of_slots(slots: int, block: int, device: torch.device) -> Tensor:
    """int64 ``[m]``: the block b(j) of each slot, from 0."""
    return torch.arange(slots, device=device) // block


def relaxed_causal_mask(slots: int, block: int, device: torch.device) -> Tensor:
    """bool ``[m, m]``: slot j sees slot j′ where ``b(j′) ≤ b(j)``. A block of 1 is the causal mask."""
    blocks = block_of_slots(slots, block, device)
    return blocks[None, :] <= blocks[:, None]


def free_before_block(prefix: Tensor, mask: Tensor, block: int) -> Tensor:
    """bool ``[B, m, n]``: the real candidates that no earlier block has placed.

    Args:
        prefix: int64 ``[B, m]``, the candidate at each slot.
        mask: bool ``[B, n]``, True for a real candidate.
        block: K.
    """
    slots = prefix.shape[1]
    placed = one_hot(prefix, mask.shape[1]).cumsum(1)
    starts = block_of_slots(slots, block, prefix.device) * block
    before = placed[:, (starts - 1).clamp(min=0)] * (starts > 0)[None, :, None]
    return mask[:, None] & (before == 0)


def valid_slots(mask: Tensor, slots: int) -> Tensor:
    """bool ``[B, m]``: the slots for which a list has candidates."""
    return torch.arange(slots, device=mask.device) < mask.sum(1, keepdim=True)
