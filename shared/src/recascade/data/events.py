"""The events of all users as flat arrays: values and offsets, never rows padded to the longest user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recascade.data.memory import events_at_a_time

# What is computed of every event is computed for so many at a time: the arrays may be larger than the memory.
EVENTS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class EventSequences:
    """N events of U users, each user's events contiguous and oldest first. The arrays may be memory maps.

    Attributes:
        offsets: int64 ``[U + 1]``; user ``u`` owns events ``offsets[u]`` to ``offsets[u + 1]``.
        items: int32 ``[N]``, index in the item vocabulary.
        timestamps: int64 ``[N]``, seconds since 1970; 0 throughout where the data have no times.
        groups: int32 ``[N]``, number of the event's group within its user (a basket or a day under ``ties=group``;
            otherwise every event is a group of its own), ascending.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    groups: NDArray[np.int32]

    @property
    def users(self) -> int:
        """U, the number of users (rows), those without events included."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 ``[U]``, events per user."""
        return np.diff(self.offsets)


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 ``[N + 1]``: where each of N packed rows of these lengths begins, and the end of the last.

    >>> offsets_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def stretches(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut rows ``0…R-1`` into stretches ``start:stop`` of at most ``EVENTS_AT_ONCE`` events (fewer where the memory is
    small, see ``recascade.data.memory``), or one longer row.

    Args:
        offsets: int64 ``[R + 1]``; row ``r`` owns events ``offsets[r]`` to ``offsets[r + 1]``.
    """
    start, rows, most = 0, len(offsets) - 1, min(EVENTS_AT_ONCE, events_at_a_time())
    while start < rows:
        stop = int(np.searchsorted(offsets, offsets[start] + most, side="right")) - 1
        yield start, max(stop, start + 1)
        start = max(stop, start + 1)


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The concatenation of ``arange(start, start + length)`` for each pair, without a loop.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    shift = np.asarray(starts, dtype=np.int64) - (ends - lengths)
    total = int(ends[-1]) if len(ends) else 0
    index: NDArray[np.int64] = np.arange(total, dtype=np.int64) + np.repeat(shift, lengths)
    return index
