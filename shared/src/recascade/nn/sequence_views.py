"""Random views of packed sequences: a crop, some items masked, or a stretch in another order."""

from __future__ import annotations

import torch
from torch import Tensor


def crop(lengths: Tensor, share: float) -> Tensor:
    """bool ``[T]``: which events a random stretch of each sequence keeps, ``max(1, floor(share * n))`` of n.

    Args:
        lengths: int64 ``[B]``, events per sequence, T in all.
        share: η of CL4SRec, in (0, 1].
    """
    start, kept = _stretch(lengths, share)
    rows, places = _places(lengths)
    return (places >= start[rows]) & (places < (start + kept)[rows])


def mask(lengths: Tensor, share: float) -> Tensor:
    """bool ``[T]``: ``floor(share * n)`` random events of each sequence.

    Args:
        lengths: int64 ``[B]``.
        share: γ of CL4SRec, in [0, 1).
    """
    rows, places = _places(lengths)
    order = _sorted_within(rows, torch.rand(len(rows), device=rows.device))
    rank = torch.empty_like(places)
    rank[order] = places
    return rank < (lengths * share).long()[rows]


def reorder(lengths: Tensor, share: float) -> Tensor:
    """int64 ``[T]``: where each event is taken from, when a random stretch of each sequence is shuffled.

    Args:
        lengths: int64 ``[B]``.
        share: β of CL4SRec, the length of the stretch, in [0, 1].
    """
    start, shuffled = _stretch(lengths, share)
    rows, places = _places(lengths)
    first, count = start[rows], shuffled[rows]
    drawn = first + torch.rand(len(rows), device=rows.device) * count
    inside = (places >= first) & (places < first + count)
    return _sorted_within(rows, torch.where(inside, drawn, places.float()))


def _stretch(lengths: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Where a random stretch of this share begins in each sequence, and how long it is, both int64 ``[B]``."""
    kept = (lengths * share).long().clamp(min=1)
    room = (lengths - kept + 1).clamp(min=1)
    return (torch.rand(len(lengths), device=lengths.device) * room).long(), kept


def _places(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The sequence of each event and its place there, both int64 ``[T]``."""
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    starts = lengths.cumsum(0) - lengths
    return rows, torch.arange(len(rows), device=lengths.device) - starts[rows]


def _sorted_within(rows: Tensor, keys: Tensor) -> Tensor:
    """int64 ``[T]``: the events of each sequence by rising key."""
    by_key = torch.argsort(keys, stable=True)
    return by_key[torch.argsort(rows[by_key], stable=True)]
