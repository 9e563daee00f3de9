"""The k best of each row of scores, from the maxima of blocks of neighbouring columns.

An item of the k best can only stand in one of the k blocks with the highest maxima, and in one of the k parts of these
with the highest maxima, so the selection sorts a few small sets instead of all scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
# Blocks are narrowed down once more to parts of this many items.
PART = 4
LOW_BITS = 0xFFFFFFFF


def blocks_of(scores: Tensor, blocks: int) -> Tensor:
    """The first ``blocks`` blocks of each row as a view ``[B, blocks, BLOCK]``."""
    return scores[:, : blocks * BLOCK].view(len(scores), blocks, BLOCK)


def block_maxima(scores: Tensor) -> Tensor:
    """The greatest score of each whole block: ``[B, I]`` to ``[B, I // BLOCK]``."""
    blocks = scores.shape[1] // BLOCK
    return blocks_of(scores, blocks).amax(2)


def hide(scores: Tensor, maxima: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Set the scores of the given cells to -inf and mend the maxima of their blocks."""
    if not len(rows):
        return
    scores[rows, columns] = -torch.inf
    blocks = columns // BLOCK
    whole = blocks < maxima.shape[1]
    rows, blocks = rows[whole], blocks[whole]
    view = blocks_of(scores, maxima.shape[1])
    maxima[rows, blocks] = view[rows, blocks].amax(1)


def best_keys(scores: Tensor, maxima: Tensor, first: int, k: int) -> Tensor:
    """int64 ``[B, ≤ k]``, descending: the sort keys of the k best places, which are numbered from ``first``."""
    width = scores.shape[1]
    blocks = maxima.shape[1]
    if blocks <= 2 * k:
        keys = sort_keys(scores, torch.arange(first, first + width, device=scores.device))
        return keys.topk(min(k, width), dim=1).values
    starts = _best_blocks(maxima, torch.arange(0, blocks * BLOCK, BLOCK, device=scores.device), k)
    inside = blocks_of(scores, blocks).gather(1, (starts // BLOCK)[:, :, None].expand(-1, -1, BLOCK))
    part_maxima = inside.view(len(scores), -1, PART).amax(2)
    part_starts = (starts[:, :, None] + torch.arange(0, BLOCK, PART, device=scores.device)).flatten(1)
    starts = _best_blocks(part_maxima, part_starts, k)
    places = (starts[:, :, None] + torch.arange(PART, device=scores.device)).flatten(1)
    keys = sort_keys(scores.gather(1, places), places + first)
    tail = width - blocks * BLOCK
    if tail:
        tail_places = torch.arange(first + width - tail, first + width, device=scores.device)
        keys = torch.cat([keys, sort_keys(scores[:, -tail:], tail_places)], dim=1)
    return keys.topk(k, dim=1).values


def _best_blocks(maxima: Tensor, starts: Tensor, k: int) -> Tensor:
    """int64 ``[B, k]``: where the k blocks with the highest maxima ``[B, n]`` start, in no order.

    With equal maxima the earlier block wins, and all its items come before those of the later one: the rule for ties
    holds.
    """
    keys = sort_keys(maxima, starts).topk(k, dim=1, sorted=False).values
    return LOW_BITS - (keys & LOW_BITS)


def sort_keys(scores: Tensor, places: Tensor) -> Tensor:
    """int64 keys whose descending order is: higher score first, then lower place.

    The upper half holds the float's bits, turned so that integers sort as the floats do; the lower half the place,
    counted down. Adding zero makes -0.0 and 0.0 equal. A NaN sorts first, so that it is noticed.
    """
    bits = (scores + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) + (LOW_BITS - places)


def decode_scores(keys: Tensor) -> Tensor:
    """The float32 scores in sort keys."""
    ordered = (keys >> 32).to(torch.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32)
