"""Calls with a deadline: what a stage does for a request must never hold the request up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlineError
from dataclasses import dataclass
from threading import BoundedSemaphore
from time import perf_counter
from typing import Any, Generic, Literal, TypeVar

Result = TypeVar("Result")
Problem = Literal["", "late", "failed", "busy", "invalid", "shortened"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of a call.

    Attributes:
        value: the result, None where there is none in time.
        problem: empty, or ``late`` (the deadline passed), ``failed`` (an error), ``busy`` (too many calls under way).
        seconds: from the call to its result, or to giving up.
    """

    value: Result | None
    problem: Problem
    seconds: float


class StageWorker:
    """Threads of one stage.

    A thread cannot be stopped from outside: a call that is late goes on, and its result is thrown away. So that calls
    that never end do not pile up, only ``workers + waiting`` of them may be under way; the next one is told ``busy`` at
    once instead of waiting for its deadline.

    Args:
        name: of the stage.
        workers: calls computed at a time.
        waiting: further calls that may wait.
    """

    def __init__(self, name: str, workers: int, waiting: int) -> None:
        self.name = name
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._room = BoundedSemaphore(workers + waiting)
        self._failing = False

    def call(self, function: Callable[[], Result], deadline: float) -> Outcome[Result]:
        """Run ``function`` in one of the threads and wait for it, ``deadline`` seconds at most."""
        begin = perf_counter()
        try:
            future = self.start(function)
        except RuntimeError:
            # Its threads were let go of: the service is ending.
            return Outcome(None, "failed", perf_counter() - begin)
        if future is None:
            return Outcome(None, "busy", perf_counter() - begin)
        try:
            value = future.result(deadline)
        except DeadlineError:
            future.cancel()
            return Outcome(None, "late", perf_counter() - begin)
        except Exception:
            # Whatever a stage does wrong, the request is answered by the stages around it. A stage that is gone fails
            # at every request: the log tells the first failure of a row, the metrics count them all.
            if not self._failing:
                _log.exception("the %s fails", self.name)
            self._failing = True
            return Outcome(None, "failed", perf_counter() - begin)
        self._failing = False
        return Outcome(value, "", perf_counter() - begin)

    def start(self, function: Callable[[], Result]) -> Future[Result] | None:
        """Run ``function`` in one of the threads without waiting for it; None where too many calls are under way.

        Raises:
            RuntimeError: the threads were let go of.
        """
        if not self._room.acquire(blocking=False):
            return None

        def run() -> Result:
            try:
                return function()
            finally:
                # Before anybody learns of the end, so that whoever waited for it finds the place free.
                self._room.release()

        try:
            future = self._pool.submit(run)
        except RuntimeError:
            self._room.release()
            raise
        future.add_done_callback(self._let_go)
        return future

    def close(self) -> None:
        """Let go of the threads; calls that wait are dropped, those under way are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, future: Future[Any]) -> None:
        """Free the place of a call that never began."""
        if future.cancelled():
            self._room.release()
