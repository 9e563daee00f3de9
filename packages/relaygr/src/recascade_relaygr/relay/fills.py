"""Prefixes on their way into the cache, one per entry, and on their way from there to host memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recascade_relaygr.relay.cache import Entry, PrefixCache, State
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.device import Work
from recascade_relaygr.relay.executor import Executor, Task
from recascade_relaygr.relay.expander import Copy, Expander
from recascade_relaygr.relay.pending import Pending
from recascade_relaygr.relay.requests import Sizes
from recascade_relaygr.relay.statistics import Statistics

# Share of the time of running a prefix.
_NEXT_TO_NOTHING = 0.1

Waiter = tuple[Pending, Callable[[], None], Callable[[], None]]


class Fill:
    """The one work that fills an entry, chunk by chunk or from a copy.

    Attributes:
        entry: what is filled.
        payload: of the signal or request that began it.
        copy: where it comes from; None to compute it.
        tokens: how far it is.
        seconds: that the device has taken so far.
        begun: whether the device has begun.
        deadline: of the ranking request that waits for it; None where nobody does.
        task: in the queue of prefixes; None while the device works or a request waits.
        waiters: requests that wait, each with what to do when the prefix is ready and when it failed.
    """

    __slots__ = ("begun", "copy", "deadline", "entry", "payload", "seconds", "task", "tokens", "waiters")

    def __init__(self, entry: Entry, payload: Any, copy: Copy | None, deadline: float | None) -> None:
        self.entry = entry
        self.payload = payload
        self.copy = copy
        self.tokens = 0
        self.seconds = 0.0
        self.begun = False
        self.deadline = deadline
        self.task: Task | None = None
        self.waiters: list[Waiter] = []


class Fills:
    """Runs, brings back and copies prefixes through the executor.

    Args:
        cache: whose entries are filled.
        expander: where copies are kept.
        executor: of the device.
        costs: predicted durations.
        chunk_tokens: tokens that are run without a break; exact, since a prefix is causal.
        statistics: counts the ends.
        now: clock time.
    """

    def __init__(
        self,
        cache: PrefixCache,
        expander: Expander,
        executor: Executor,
        costs: Costs,
        chunk_tokens: int,
        statistics: Statistics,
        now: Callable[[], float],
    ) -> None:
        self.cache = cache
        self.expander = expander
        self.executor = executor
        self.costs = costs
        self.chunk_tokens = chunk_tokens
        self.statistics = statistics
        self._now = now

    def begin(self, entry: Entry, payload: Any, copy: Copy | None, *, deadline: float | None = None) -> Fill:
        """Fill a reserved entry; at once where a request with a deadline waits for it."""
        fill = entry.fill = Fill(entry, payload, copy, deadline)
        self._queue(fill)
        return fill

    def remaining(self, fill: Fill) -> float:
        """Predicted seconds of device time until the prefix is ready."""
        tokens = fill.entry.tokens
        return self.costs.reload(tokens) if fill.copy is not None else self.costs.prefill(tokens, fill.tokens)

    def hurry(self, fill: Fill, deadline: float) -> None:
        """A request waits: what is left of the fill goes before all that nobody waits for."""
        fill.deadline = deadline if fill.deadline is None else min(fill.deadline, deadline)
        if fill.task is not None and self.executor.withdraw(fill.task):
            fill.task = None
            self._queue(fill)

    def call_off(self, entry: Entry) -> None:
        """Give up an entry whose fill has not begun."""
        fill: Fill = entry.fill
        self.cache.kill(entry)
        # One that waits among the rankings is dropped when its turn comes.
        if fill.task is not None and self.executor.withdraw(fill.task):
            self._fail(fill, "cancelled")

    def copy_to_host(self, entry: Entry) -> None:
        """Copy a spent entry to host memory, unless it is there: before rankings where that takes next to nothing, for
        in an overload there is no other time, and what is lost then has to be run again; else when the device has time.
        """
        # A copy may have gone since, for want of room or of use.
        entry.copied = self.expander.get(entry.key, entry.fingerprint, self._now()) is not None
        if entry.copied:
            return
        cost = self.costs.reload(entry.tokens)

        def choose() -> Work | None:
            if entry.state not in (State.READY, State.SPENT) or entry.copied:
                return None
            if self.expander.get(entry.key, entry.fingerprint, self._now()) is not None:
                self.cache.mark_copied(entry)
                return None
            self.cache.pin(entry)
            return Work("copy", Sizes(entry.tokens, 0, 0), cost, entry.pages, end=entry.tokens)

        def done(result: Any, error: BaseException | None, seconds: float) -> None:
            self.statistics.fills["copy" if error is None else "copy-failed"] += 1
            if error is None and entry.state is not State.DEAD:
                size = self.cache.bytes_of(entry.tokens)
                entry.copied = self.expander.put(entry.key, entry.fingerprint, entry.tokens, size, result, self._now())
            self.cache.unpin(entry)

        if cost <= _NEXT_TO_NOTHING * self.costs.prefill(entry.tokens):
            self.executor.rank(choose, done, cost, deadline=float("-inf"))
        else:
            self.executor.fill(choose, done, cost)

    def _queue(self, fill: Fill) -> None:
        entry = fill.entry
        end = entry.tokens if fill.copy is not None else min(fill.tokens + self.chunk_tokens, entry.tokens)
        cost = self.remaining(fill) if fill.copy is not None else self.costs.prefill(end, fill.tokens)

        def choose() -> Work | None:
            fill.task = None
            if entry.state in (State.DEAD, State.FREED):
                self._fail(fill, "cancelled")
                return None
            if not fill.begun:
                self.cache.begin_fill(entry)
                fill.begun = True
            sizes = Sizes(entry.tokens, 0, 0)
            if fill.copy is not None:
                return Work("reload", sizes, cost, entry.pages, end=end, payload=fill.copy.payload)
            return Work("prefill", sizes, cost, entry.pages, fill.tokens, end, fill.payload)

        def done(result: Any, error: BaseException | None, seconds: float) -> None:
            if error is not None or entry.state is State.DEAD:
                if fill.copy is not None and error is not None:
                    self.expander.drop(entry.key)
                self._fail(fill, "cancelled" if error is None else "failed")
                return
            fill.tokens = end
            fill.seconds += seconds
            if end < entry.tokens:
                self._queue(fill)
            else:
                self._finish(fill)

        if fill.deadline is None:
            fill.task = self.executor.fill(choose, done, cost, first=fill.begun)
        else:
            self.executor.rank(choose, done, cost, fill.deadline)

    def _finish(self, fill: Fill) -> None:
        self.statistics.fills[_kind(fill)] += 1
        entry = fill.entry
        if fill.copy is None:
            self.costs.prefill_table.observe(entry.tokens, 1, fill.seconds)
        entry.fill = None
        entry.copied = fill.copy is not None
        # Waiters pin the entry before the fill lets go of it, so that it is not spent in between.
        for pending, ready, _ in fill.waiters:
            pending.stop_waiting()
            ready()
        self.cache.end_fill(entry)

    def _fail(self, fill: Fill, end: str) -> None:
        self.statistics.fills[f"{_kind(fill)}-{end}"] += 1
        entry = fill.entry
        self.cache.kill(entry)
        if fill.begun:
            self.cache.unpin(entry)
        for pending, _, failed in fill.waiters:
            pending.stop_waiting()
            failed()


def _kind(fill: Fill) -> str:
    return "prefill" if fill.copy is None else "reload"
