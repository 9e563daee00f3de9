"""Two bounds on the work that prefixes may cause: a bucket for admissions, a sliding window for device time."""

from __future__ import annotations

from collections import deque


class TokenBucket:
    """Lets through ``rate`` per second, and at most ``burst`` at once beyond it.

    Args:
        rate: refill per second, in any unit of cost.
        burst: the most that collects.
        now: clock time.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._filled = now

    def take(self, cost: float, now: float) -> bool:
        """Pay ``cost`` if there is enough."""
        self._level = min(self.burst, self._level + self.rate * max(now - self._filled, 0.0))
        self._filled = max(now, self._filled)
        if cost > self._level:
            return False
        self._level -= cost
        return True


class Busy:
    """Work that a ``BusyWindow`` knows of."""

    __slots__ = ("begun", "counted", "seconds")

    def __init__(self, begun: float, seconds: float) -> None:
        self.begun = begun
        self.seconds = seconds
        self.counted = True


class BusyWindow:
    """Bounds the seconds of work begun within any window of time: at most ``limit``, and the last work begun below it.

    Args:
        seconds: width of the window; 0 for no bound.
        limit: seconds of work per window.

    Attributes:
        total: seconds of all work so far.
    """

    def __init__(self, seconds: float, limit: float) -> None:
        self.seconds = seconds
        self.limit = limit
        self.total = 0.0
        self._works: deque[Busy] = deque()
        self._sum = 0.0

    def begin(self, now: float, predicted: float) -> Busy:
        """Work begins; what it will take is only predicted."""
        work = Busy(now, predicted)
        self._works.append(work)
        self._sum += predicted
        self.total += predicted
        return work

    def end(self, work: Busy, seconds: float) -> None:
        """It took this long."""
        if work.counted:
            self._sum += seconds - work.seconds
        self.total += seconds - work.seconds
        work.seconds = seconds

    def opens(self, now: float) -> float:
        """The clock time from which more work may begin; ``now`` where it may at once."""
        while self._works and self._works[0].begun <= now - self.seconds:
            oldest = self._works.popleft()
            oldest.counted = False
            self._sum -= oldest.seconds
        if not self._works or self._sum < self.limit:
            return now
        excess = self._sum - self.limit
        for work in self._works:
            excess -= work.seconds
            if excess < 0:
                return work.begun + self.seconds
        return self._works[-1].begun + self.seconds
