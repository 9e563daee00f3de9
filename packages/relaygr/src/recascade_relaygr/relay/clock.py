"""Time as the relay sees it: an asyncio event loop in service, an event heap in tests and in the simulator.

Everything in ``recascade_relaygr.relay`` runs on the one thread of its clock, so that none of it needs a lock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol


class Timer(Protocol):
    """A callback that was asked for."""

    def cancel(self) -> None:
        """Do not call it; without effect once it was called."""
        ...


class Clock(Protocol):
    """What the relay needs of time; ``asyncio.AbstractEventLoop`` is one."""

    def time(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> Timer:
        """Call ``callback(*arguments)`` at the time ``when``, or as soon as possible where it has passed."""
        ...


class VirtualClock:
    """A clock that stands still until it is told to go on; callbacks due at the same time keep their order."""

    def __init__(self) -> None:
        self._now = 0.0
        self._numbers = count()
        self._due: list[tuple[float, int, VirtualTimer]] = []

    def time(self) -> float:
        """Virtual seconds since the clock was made."""
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> VirtualTimer:
        """Call it when the virtual time has come."""
        timer = VirtualTimer(callback, arguments)
        heapq.heappush(self._due, (max(when, self._now), next(self._numbers), timer))
        return timer

    def run_until(self, when: float) -> None:
        """Let time pass until ``when`` and call what is due on the way, that very moment included."""
        while self._due and self._due[0][0] <= when:
            self._step()
        self._now = max(self._now, when)

    def run(self) -> None:
        """Let time pass until nothing is due any more."""
        while self._due:
            self._step()

    def _step(self) -> None:
        self._now, _, timer = heapq.heappop(self._due)
        timer.fire()


class VirtualTimer:
    """A callback of a virtual clock."""

    __slots__ = ("_arguments", "_callback")

    def __init__(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self._callback: Callable[..., object] | None = callback
        self._arguments = arguments

    def cancel(self) -> None:
        """Do not call it."""
        self._callback = None

    def fire(self) -> None:
        """Call it, unless it was cancelled."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(*self._arguments)
