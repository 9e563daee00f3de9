"""A device that computes nothing: each work takes the time that a table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recascade_relaygr.relay.clock import Clock
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.device import Work


class TabulatedDevice:
    """Lets a clock's time pass instead of computing; for simulations and tests.

    Args:
        clock: usually a ``VirtualClock``.
        costs: what works really take, which need not be what the relay predicts.
        noise: factor on each duration, drawn anew for each work; 1 by default.

    Attributes:
        started: works so far, by kind.
        busy: seconds of lane time so far.
    """

    def __init__(self, clock: Clock, costs: Costs, noise: Callable[[], float] = lambda: 1.0) -> None:
        self.clock = clock
        self.costs = costs
        self.noise = noise
        self.started: dict[str, int] = {}
        self.busy = 0.0

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        """Call ``done`` when the work's time has passed; the result of a ranking is the path of its scores."""
        self.started[work.kind] = self.started.get(work.kind, 0) + 1
        seconds = self.seconds(work) * self.noise()
        self.busy += seconds
        self.clock.call_at(self.clock.time() + seconds, done, work.kind, None, seconds)

    def seconds(self, work: Work) -> float:
        """What the tables say."""
        if work.kind == "prefill":
            return self.costs.prefill(work.end, work.begin)
        if work.kind in ("reload", "copy"):
            return self.costs.reload(work.end)
        return self.costs.rank(work.sizes) if work.kind == "rank" else self.costs.full(work.sizes)
