"""Quantiles of what was observed lately: one worked out now and then, one that follows every value."""

from __future__ import annotations

from collections import deque

_OBSERVED = 4096
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


class RunningQuantile:
    """Stochastic approximation of a quantile of values that are not negative (Robbins and Monro, 1951).

    Args:
        share: in (0, 1).
        step: how far a value above may lift it.
    """

    def __init__(self, share: float, step: float) -> None:
        self.share = share
        self.step = step
        self.value = 0.0

    def observe(self, value: float) -> None:
        """Follow a value."""
        # Rests where a share of the values lies below: there, rises and falls are equally much.
        change = self.share if value > self.value else self.share - 1.0
        self.value = max(self.value + self.step * change, 0.0)
