"""A ranking request on its way to its answer."""

from __future__ import annotations

from collections.abc import Callable

from recascade_relaygr.relay.clock import Timer
from recascade_relaygr.relay.requests import Outcome, RankRequest


class Pending:
    """Makes sure that a request is answered once at most.

    Args:
        request: what was asked.
        done: told the answer.
        arrived: clock time.

    Attributes:
        asked: clock time at which a lane was asked for; a prefix that had to be waited for came before.
        queued: seconds of waiting for a lane so far, until the device began or for the prefix's own lanes.
        over: whether it was answered or cancelled.
        timer: the end of the request's patience, while it waits for a prefix.
        leave: gives up its place among those who wait for a prefix; None while it does not wait.
    """

    def __init__(self, request: RankRequest, done: Callable[[Outcome], None], arrived: float) -> None:
        self.request = request
        self.arrived = arrived
        self.asked = arrived
        self.queued = 0.0
        self.over = False
        self.timer: Timer | None = None
        self.leave: Callable[[], None] | None = None
        self._done = done

    def begin(self, now: float) -> None:
        """The device begins to work for the request."""
        self.queued += now - self.asked

    def answer(self, outcome: Outcome) -> None:
        """Tell the answer, if nobody has."""
        if not self.over:
            self.cancel()
            self._done(outcome)

    def cancel(self) -> None:
        """Nobody wants the answer."""
        self.over = True
        leave = self.leave
        self.stop_waiting()
        if leave is not None:
            leave()

    def stop_waiting(self) -> None:
        """The prefix has come, or will not."""
        self.leave = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
