"""How a growing history is cut into a prefix, which stays the same for many requests, and the newest events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha1
from typing import NamedTuple

import torch
from torch import Tensor

from recascade.contracts.context import Context


class Cut(NamedTuple):
    """Events ``start`` to ``start + prefix`` are the prefix, those behind it are recent; those before are not read."""

    start: int
    prefix: int


def cut(events: int, max_length: int, block: int) -> Cut:
    """Cut a history of this many events.

    The prefix grows by whole blocks, and where the history is longer than what the ranker reads, its oldest events go
    several blocks at a time: each event that comes would otherwise change the prefix, and nothing run ahead could be
    used.

    Args:
        events: of the history.
        max_length: the most that the ranker reads, at least ``block``.
        block: events of a block.
    """
    surplus = max(events - max_length, 0)
    step = max(max_length // (8 * block), 1) * block
    start = -(-surplus // step) * step
    kept = max(events - start, 0)
    return Cut(start, kept - kept % block)


@dataclass(frozen=True)
class RankInput:
    """What a device needs of a request.

    Attributes:
        history: one request, already cut to what the ranker reads.
        prefix: how many of its oldest events are the prefix.
        items: int64 ``[1, k]``, the candidates; None in a signal.
    """

    history: Context
    prefix: int
    items: Tensor | None = None

    def first(self, events: int) -> Context:
        """The oldest events alone."""
        history = self.history
        offsets = torch.tensor([0, events], device=history.offsets.device)
        return replace(history, items=history.items[:events], timestamps=history.timestamps[:events], offsets=offsets)

    def with_prefix(self, tokens: int) -> RankInput:
        """The same with a prefix shortened to its newest tokens."""
        if tokens == self.prefix:
            return self
        kept = self.history.items.numel() - self.prefix + tokens
        return RankInput(self.history.last(kept), tokens, self.items)


def fingerprint(history: Context, prefix: int) -> bytes:
    """20 bytes that change with any item or time of the prefix (SHA-1, for which processors have instructions)."""
    # Both in one word, as long as no time is before 1698 or after 2242 and there are fewer than 2^29 items.
    events = torch.add(history.timestamps[:prefix], history.items[:prefix], alpha=1 << 34)
    return sha1(events.numpy().data, usedforsecurity=False).digest()
