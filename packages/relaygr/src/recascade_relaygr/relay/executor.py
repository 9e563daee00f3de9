"""Two queues before the lanes of a device: ranking, by deadline, and prefixes, when ranking leaves room."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

from recascade_relaygr.relay.clock import Clock, Timer
from recascade_relaygr.relay.config import ExecutorConfig
from recascade_relaygr.relay.device import Device, Work
from recascade_relaygr.relay.rates import BusyWindow

Choose = Callable[[], "Work | None"]
Done = Callable[[Any, "BaseException | None", float], None]


class Task:
    """Something that waits for a lane.

    Attributes:
        choose: gives the work when the lane is free, so that it fits the time that is left; None where there is nothing
            left to do.
        done: told result or failure, and the seconds that the device took.
        cost: predicted seconds, for the queue's length.
        deadline: order among ranking tasks.
        ranking: whether somebody waits for it.
    """

    __slots__ = ("choose", "cost", "deadline", "done", "number", "ranking")

    def __init__(self, choose: Choose, done: Done, cost: float, deadline: float, number: int, *, ranking: bool) -> None:
        self.choose = choose
        self.done = done
        self.cost = cost
        self.deadline = deadline
        self.number = number
        self.ranking = ranking

    def __lt__(self, other: Task) -> bool:
        return (self.deadline, self.number) < (other.deadline, other.number)


class Executor:
    """Starts works in at most ``lanes`` lanes, which are never interrupted.

    A prefix's work starts only when no ranking task waits, when prefixes have not had their share of the lanes' time,
    and when another lane is free or the work is short enough for a request that comes meanwhile (our design).

    Args:
        clock: whose thread everything runs on.
        device: does the work.
        config: lanes and priority.
        fill_share: share of the lanes' time that prefixes may take.
        headroom: seconds that a ranking task can afford to wait.
        observe: told how long each work took.
    """

    def __init__(
        self,
        clock: Clock,
        device: Device,
        config: ExecutorConfig,
        fill_share: float,
        headroom: Callable[[], float],
        observe: Callable[[Work, float], None],
    ) -> None:
        self.clock = clock
        self.device = device
        self.lanes = config.lanes
        self.priority = config.priority
        self.headroom = headroom
        self.observe = observe
        self.rank_seconds = 0.0
        self.rank_queue = 0.0
        self.fill_queue = 0.0
        window = config.fill_window_seconds
        self._fill_window = BusyWindow(window, fill_share * config.lanes * window)
        self._numbers = count()
        self._ranking: list[Task] = []
        self._filling: OrderedDict[int, Task] = OrderedDict()
        self._running = 0
        self._retry: Timer | None = None
        self._dispatching = False

    @property
    def fill_seconds(self) -> float:
        """Seconds of lane time that prefixes have taken so far."""
        return self._fill_window.total

    @property
    def busy_lanes(self) -> int:
        """Lanes at work."""
        return self._running

    def rank(self, choose: Choose, done: Done, cost: float, deadline: float) -> None:
        """Queue work that somebody waits for."""
        task = Task(choose, done, cost, deadline, next(self._numbers), ranking=True)
        self.rank_queue += cost
        heapq.heappush(self._ranking, task)
        self._dispatch()

    def fill(self, choose: Choose, done: Done, cost: float, *, first: bool = False) -> Task:
        """Queue work that nobody waits for yet, behind the others or (the rest of something begun) before them."""
        task = Task(choose, done, cost, self.clock.time(), next(self._numbers), ranking=False)
        self.fill_queue += cost
        self._filling[task.number] = task
        if first:
            self._filling.move_to_end(task.number, last=False)
        self._dispatch()
        return task

    def withdraw(self, task: Task) -> bool:
        """Take a prefix's task out of its queue; False where it is no longer in it."""
        if self._filling.pop(task.number, None) is None:
            return False
        self.fill_queue -= task.cost
        return True

    def _dispatch(self) -> None:
        # Choosing work may queue more of it.
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._running < self.lanes:
                task = self._next()
                if task is None:
                    return
                work = task.choose()
                if work is not None:
                    self._start(task, work)
        finally:
            self._dispatching = False

    def _next(self) -> Task | None:
        """The task to start now, out of its queue; None where there is none."""
        waiting = next(iter(self._filling.values()), None)
        if self._ranking and (self.priority or waiting is None or self._ranking[0].number < waiting.number):
            task = heapq.heappop(self._ranking)
            self.rank_queue -= task.cost
            return task
        if waiting is None or not self._fill_may_start(waiting):
            return None
        self.withdraw(waiting)
        return waiting

    def _fill_may_start(self, task: Task) -> bool:
        if not self.priority:
            return True
        now = self.clock.time()
        opens = self._fill_window.opens(now)
        if opens > now:
            if self._retry is None:
                self._retry = self.clock.call_at(opens, self._try_again)
            return False
        return self._running == 0 or self._running < self.lanes - 1 or task.cost <= self.headroom()

    def _try_again(self) -> None:
        self._retry = None
        self._dispatch()

    def _start(self, task: Task, work: Work) -> None:
        self._running += 1
        # What the device will really take is known too late to hold others back; the prediction is corrected then.
        fill = None if task.ranking else self._fill_window.begin(self.clock.time(), work.cost)

        def finish(result: Any, error: BaseException | None, seconds: float) -> None:
            self._running -= 1
            if fill is None:
                self.rank_seconds += seconds
            else:
                self._fill_window.end(fill, seconds)
            if error is None:
                self.observe(work, seconds)
            task.done(result, error, seconds)
            self._dispatch()

        self.device.start(work, finish)
