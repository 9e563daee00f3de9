"""A device that computes for real and lets a clock pass by the CPU time that it took."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Any

from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.relay.clock import Clock
from recascade_relaygr.relay.device import Work


class MeasuredDevice:
    """Replays on a machine that others use too: every score is computed, in one thread, but lanes and queues live in
    virtual time, so that what else the machine does delays nothing.

    Args:
        works: what is computed, on the CPU.
        clock: usually a ``VirtualClock``.
    """

    def __init__(self, works: TorchWorks, clock: Clock) -> None:
        self.works = works
        self.clock = clock

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        """Compute at once, and tell when as much time has passed."""
        result, failure = None, None
        begun = thread_time()
        try:
            result = self.works.compute(work)
        except Exception as error:  # As on a real device, the relay goes another way.
            failure = error
        seconds = thread_time() - begun
        self.clock.call_at(self.clock.time() + seconds, done, result, failure, seconds)
