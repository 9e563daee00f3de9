"""Pointwise attention of new events and of candidates to an old prefix, piece by piece.

HSTU weighs each key by ``SiLU(q · k + bias)`` without a softmax (Zhai et al., ICML 2024, arXiv 2402.17152, equation 2),
so that what a query gathers from several pieces of a history is the plain sum of what it gathers from each. Queries go
in tiles of 128, which is exact and skips keys that no query of a tile may see.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

_QUERIES = 128
# Scores of a tile of candidates; they fit 1 MB of second-level cache beside their weights.
_SCORES = 1 << 17

Piece = tuple[Tensor, Tensor]
"""Keys ``[H, m, D]`` and values ``[H, m, E]`` of m events."""


def attend_causally(query: Tensor, pieces: Sequence[Piece], own: Piece, position_bias: Tensor | None) -> Tensor:
    """What n new events gather from all events before them and from themselves; ``[H, n, E]``.

    Args:
        query: ``[H, n, D]``.
        pieces: of the events before the new ones, oldest first.
        own: of the new events.
        position_bias: by distance in positions, at least as long as the history; or None.
    """
    past = sum(keys.shape[1] for keys, _ in pieces)
    new = query.shape[1]
    gathered = torch.empty(query.shape[0], new, own[1].shape[2], dtype=query.dtype, device=query.device)
    for first in range(0, new, _QUERIES):
        last = min(first + _QUERIES, new)
        rows = query[:, first:last]
        visible = [*_placed(pieces), (past, own[0][:, :last], own[1][:, :last])]
        for number, (start, keys, values) in enumerate(visible):
            scores = torch.matmul(rows, keys.transpose(1, 2))
            if position_bias is not None:
                scores += _by_distance(position_bias, past + first - start, last - first, keys.shape[1])
            weights = silu(scores, inplace=True)
            if number == len(pieces):
                weights = weights.tril_(first)
            part = torch.matmul(weights, values)
            gathered[:, first:last] = part if number == 0 else gathered[:, first:last] + part
    return gathered


def attend_from_candidates(query: Tensor, pieces: Sequence[Piece], biases: Sequence[Tensor]) -> Tensor:
    """What candidates gather from a whole history (not from themselves); ``[H, k, E]``.

    Args:
        query: ``[H, k, D]``.
        pieces: of the history, oldest first.
        biases: ``[m]`` for each piece, the same for all candidates.
    """
    heads, candidates = query.shape[:2]
    gathered = query.new_zeros(heads, candidates, pieces[0][1].shape[2] if pieces else query.shape[2])
    for (keys, values), bias in zip(pieces, biases, strict=True):
        step = max(_SCORES // (heads * max(keys.shape[1], 1)), 16)
        for first in range(0, candidates, step):
            scores = torch.matmul(query[:, first : first + step], keys.transpose(1, 2)) + bias
            gathered[:, first : first + step] += torch.matmul(silu(scores, inplace=True), values)
    return gathered


def _placed(pieces: Sequence[Piece]) -> list[tuple[int, Tensor, Tensor]]:
    """Pieces with the position of their first event."""
    placed, start = [], 0
    for keys, values in pieces:
        placed.append((start, keys, values))
        start += keys.shape[1]
    return placed


def _by_distance(bias: Tensor, ahead: int, rows: int, columns: int) -> Tensor:
    """``[rows, columns]``: the bias of the distance ``ahead + row - column``; later keys get any bias, being masked."""
    distances = torch.arange(ahead + rows - 1, ahead - columns, -1, device=bias.device).clamp_(0, len(bias) - 1)
    # Falling distances, read one place further for each column and for each earlier row.
    return bias[distances].unfold(0, columns, 1).flip(0)
