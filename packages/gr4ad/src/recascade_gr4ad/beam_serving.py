"""Beams that are as wide as the traffic allows (GR4AD, §4.1: dynamic beam width and traffic-aware beam scaling)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Lock


def beam_scale(rate: float, busy_rate: float, idle_rate: float, widest: float) -> float:
    """``f(Q)``: 1 from the busy rate on, ``widest`` up to the idle rate, a straight line between (our choice: the paper
    gives only +60 % off-peak and no change at peak).

    Args:
        rate: Q, requests per second, not negative.
        busy_rate: Q_threshold; 0 switches scaling off.
        idle_rate: below the busy rate.
        widest: at least 1.
    """
    if not busy_rate or rate >= busy_rate:
        return 1.0
    return 1.0 + (widest - 1.0) * min(1.0, (busy_rate - rate) / (busy_rate - idle_rate))


class ArrivalRate:
    """Requests per second over the latest seconds.

    Args:
        seconds: over which they are counted.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._arrivals: deque[float] = deque()

    def arrive(self, now: float) -> float:
        """Count a request at ``now`` (seconds of any clock that never goes back) and return the rate with it."""
        self._arrivals.append(now)
        while self._arrivals[0] <= now - self._seconds:
            self._arrivals.popleft()
        return len(self._arrivals) / self._seconds


class BeamController:
    """The beam widths of the next request. A request keeps those that it was given.

    When traffic rises, beams narrow at once; when it falls, they widen only after it fell by more than the hysteresis
    (our choice), so that a rate that swings inside that share does not make them swing. Safe to use from threads.

    Args:
        widths: after each level at the busy rate and above.
        busy_rate: see ``beam_scale``.
        idle_rate: see ``beam_scale``.
        widest: see ``beam_scale``.
        hysteresis: share by which the rate must fall.
        seconds: over which the rate is measured.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        busy_rate: float = 0.0,
        idle_rate: float = 0.0,
        widest: float = 1.6,
        hysteresis: float = 0.1,
        seconds: float = 10.0,
    ) -> None:
        self._widths = tuple(widths)
        self._limits = (busy_rate, idle_rate, widest)
        self._hysteresis = hysteresis
        self._rate = ArrivalRate(seconds)
        self._settled = 0.0
        self._lock = Lock()
        self.scale = beam_scale(0.0, *self._limits)

    def arrive(self, now: float) -> tuple[int, ...]:
        """Note that a request came at ``now`` (seconds) and say how wide its beams are."""
        with self._lock:
            return self.follow(self._rate.arrive(now))

    def follow(self, rate: float) -> tuple[int, ...]:
        """Take note of a measured rate (requests per second) and say how wide beams are."""
        if rate > self._settled or rate < self._settled * (1 - self._hysteresis):
            self._settled = rate
            self.scale = beam_scale(rate, *self._limits)
        return tuple(round(width * self.scale) for width in self._widths)
