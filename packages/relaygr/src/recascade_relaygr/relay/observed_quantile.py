"""Quantiles of what was observed lately: of many, worked out now and then, and of the last few, at any time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

_OBSERVED = 4096
_RECENT = 512
_EVERY_SECONDS = 10.0


class ObservedQuantile:
    """The smallest of the last 4,096 values that at least a given share of them does not exceed.

    Args:
        share: in [0, 1].
        default: the value until ten seconds of observations have been worked out.
        now: clock time.

    Attributes:
        value: as of the last time that it was worked out.
    """

    def __init__(self, share: float, default: float, now: float) -> None:
        self.share = share
        self.value = default
        self._values: deque[float] = deque(maxlen=_OBSERVED)
        self._next = now + _EVERY_SECONDS

    def observe(self, value: float, now: float) -> None:
        """Note a value; every ten seconds the quantile is worked out anew."""
        self._values.append(value)
        if now >= self._next:
            self._next = now + _EVERY_SECONDS
            ordered = sorted(self._values)
            self.value = ordered[min(int(self.share * len(ordered)), len(ordered) - 1)]


class RecentQuantile:
    """The smallest of the last few hundred values that at least a given share of them does not exceed, at any time.

    While fewer values were seen than it takes to tell such a share, that is the largest of them, so that a rising load
    shows at once.

    Args:
        share: in [0, 1].
        window: values that count.
    """

    def __init__(self, share: float, window: int = _RECENT) -> None:
        self.share = share
        self._values: deque[float] = deque(maxlen=window)
        self._ordered: list[float] = []

    @property
    def value(self) -> float:
        """0 before the first value."""
        count = len(self._ordered)
        return self._ordered[min(int(self.share * count), count - 1)] if count else 0.0

    def observe(self, value: float) -> None:
        """Note a value, and forget the oldest one that counted."""
        if len(self._values) == self._values.maxlen:
            del self._ordered[bisect_left(self._ordered, self._values[0])]
        self._values.append(value)
        insort(self._ordered, value)
