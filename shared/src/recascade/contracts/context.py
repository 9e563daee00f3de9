"""What is known of a batch of requests when something must be recommended."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """B requests, each with its user's history, packed: T events in all, no padding.

    The events of request ``b`` are ``items[offsets[b]:offsets[b + 1]]``, oldest first.

    Attributes:
        users: int64 ``[B]``, index in the user vocabulary, -1 for a user that training never saw.
        items: int64 ``[T]``, index in the item vocabulary.
        timestamps: int64 ``[T]``, seconds since 1970; 0 throughout where the data have no times.
        offsets: int64 ``[B + 1]``, ascending, from 0 to T.
        now: int64 ``[B]``, time of the request in seconds, or None where unknown.
    """

    users: Tensor
    items: Tensor
    timestamps: Tensor
    offsets: Tensor
    now: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """B, the number of requests."""
        return self.users.numel()

    @property
    def lengths(self) -> Tensor:
        """int64 ``[B]``, events per request."""
        return self.offsets.diff()

    @property
    def rows(self) -> Tensor:
        """int64 ``[T]``, the request each event belongs to."""
        return torch.repeat_interleave(
            torch.arange(self.batch_size, device=self.offsets.device), self.lengths, output_size=self.items.numel()
        )

    def last(self, count: int) -> Context:
        """The same requests with only the ``count`` most recent events of each."""
        lengths = self.lengths
        if lengths.numel() == 0 or int(lengths.max()) <= count:
            return self
        kept = lengths.clamp(max=count)
        offsets = torch.zeros_like(self.offsets)
        torch.cumsum(kept, 0, out=offsets[1:])
        shift = self.offsets[1:] - kept - offsets[:-1]
        index = torch.arange(int(offsets[-1]), device=offsets.device) + torch.repeat_interleave(shift, kept)
        return replace(self, items=self.items[index], timestamps=self.timestamps[index], offsets=offsets)

    def between(self, start: int, stop: int) -> Context:
        """Requests ``start`` to ``stop`` (excluded) alone."""
        offsets = self.offsets[start : stop + 1]
        events = slice(int(offsets[0]), int(offsets[-1]))
        return Context(
            users=self.users[start:stop],
            items=self.items[events],
            timestamps=self.timestamps[events],
            offsets=offsets - offsets[0],
            now=None if self.now is None else self.now[start:stop],
        )

    def take(self, rows: Tensor) -> Context:
        """The given requests (int64 ``[R]``, repetitions allowed), in that order."""
        lengths = self.lengths[rows]
        offsets = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(lengths, 0, out=offsets[1:])
        shift = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], lengths)
        events = torch.arange(len(shift), device=rows.device) + shift
        now = None if self.now is None else self.now[rows]
        return Context(self.users[rows], self.items[events], self.timestamps[events], offsets, now)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Context:
        """The same requests on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        now = None if self.now is None else move(self.now)
        return Context(move(self.users), move(self.items), move(self.timestamps), move(self.offsets), now)
