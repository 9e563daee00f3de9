"""Pointwise attention of new events and of candidates to an old prefix, piece by piece.

HSTU weighs each key by ``SiLU(q · k + bias)`` without a softmax (Zhai et al., ICML 2024, arXiv 2402.17152, equation 2),
so that what a query gathers from several pieces of a history is the plain sum of what it gathers from each. Queries and
keys go in tiles, which is exact and skips keys that no query of a tile may see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

_QUERIES = 128
# Keys of a tile: with 128 queries of two heads its scores are half a MB, and stay in the second-level cache.
_KEYS = 512

Piece = tuple[Tensor, Tensor]
"""Keys ``[H, m, D]`` and values ``[H, m, E]`` of m events."""


def attend_causally(query: Tensor, pieces: Sequence[Piece], own: Piece, position_bias: Tensor) -> Tensor:
    """What n new events gather from all events before them and from themselves; ``[H, n, E]``.

    Args:
        query: ``[H, n, D]``.
        pieces: of the events before the new ones, oldest first.
        own: of the new events.
        position_bias: by distance in positions, at least as long as the history.
    """
    heads, new = query.shape[:2]
    events = sum(keys.shape[1] for keys, _ in pieces) + new
    distances = torch.arange(events - 1, -1, -1, device=query.device).clamp_(max=len(position_bias) - 1)
    # SiLU of this is exactly 0, whatever the score that it is added to.
    hidden = position_bias.new_full((max(min(new, _QUERIES) - 1, 0),), torch.finfo(position_bias.dtype).min / 2)
    biases = torch.cat([position_bias[distances], hidden])
    # From the newest query to the oldest, row r has the biases from place r on: a view, without a matrix of them.
    query = query.flip(1)
    gathered = query.new_zeros(heads, new, own[1].shape[2])
    for first in range(0, new, _QUERIES):
        last = min(first + _QUERIES, new)
        seen = new - first
        bias = biases[first : events + last - first - 1].unfold(0, events - first, 1)
        _gather(gathered[:, first:last], query[:, first:last], [*pieces, (own[0][:, :seen], own[1][:, :seen])], bias)
    return gathered.flip(1)


def attend_from_candidates(query: Tensor, pieces: Sequence[Piece], bias: Tensor) -> Tensor:
    """What candidates gather from a whole history (not from themselves); ``[H, k, E]``.

    Args:
        query: ``[H, k, D]``.
        pieces: of the history's m events, oldest first.
        bias: ``[m]``, the same for all candidates.
    """
    heads, candidates, width = query.shape
    gathered = query.new_zeros(heads, candidates, pieces[0][1].shape[2] if pieces else width)
    for first in range(0, candidates, _QUERIES):
        rows = slice(first, first + _QUERIES)
        _gather(gathered[:, rows], query[:, rows], pieces, bias[None])
    return gathered


def _gather(gathered: Tensor, query: Tensor, pieces: Sequence[Piece], bias: Tensor) -> None:
    """Add what a tile of queries gathers from all pieces.

    Args:
        gathered: ``[H, r, E]``, added to in place.
        query: ``[H, r, D]``.
        pieces: with m events in all.
        bias: ``[r, m]`` or ``[1, m]``.
    """
    for start, keys, values in _tiles(pieces):
        biases = bias[:, start : start + keys.shape[1]].expand(*query.shape[:2], -1)
        scores = torch.baddbmm(biases, query, keys.transpose(1, 2))
        gathered.baddbmm_(silu(scores, inplace=True), values)


def _tiles(pieces: Sequence[Piece]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Position of the first event, keys and values of each tile."""
    position = 0
    for keys, values in pieces:
        for first in range(0, keys.shape[1], _KEYS):
            tile = slice(first, first + _KEYS)
            yield position + first, keys[:, tile], values[:, tile]
        position += keys.shape[1]
