"""One instance of the ranking stage: what it does on a signal, and on a ranking request, in whatever order they come.

A request is always answered: on the prefix that its signal left, on one that is just being run or brought back, or by
full inference; when even that is too late, over a shortened history. The state machine is our design.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recascade_relaygr.relay.arena import PageArena
from recascade_relaygr.relay.cache import Entry, PrefixCache, State
from recascade_relaygr.relay.clock import Clock
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.device import Device, Work
from recascade_relaygr.relay.executor import Executor
from recascade_relaygr.relay.expander import Expander
from recascade_relaygr.relay.fills import Fill, Fills
from recascade_relaygr.relay.lifecycle import LifecycleWindow
from recascade_relaygr.relay.observed_quantile import RecentQuantile
from recascade_relaygr.relay.patience import Patience
from recascade_relaygr.relay.pending import Pending
from recascade_relaygr.relay.promise_timer import PromiseTimer
from recascade_relaygr.relay.recent_requests import RecentRequests
from recascade_relaygr.relay.requests import InstanceGoneError, Outcome, OwnerLoad, Path, PrefixKey, RankRequest, Signal
from recascade_relaygr.relay.statistics import Statistics

_MIB = 1 << 20
_HIGH = 0.99


class Instance:
    """Prefix cache, host tier and lanes of one device, behind ``signal`` and ``rank``.

    All calls come on the clock's thread.

    Args:
        name: in the ring.
        clock: time, and whose thread everything runs on.
        device: does the work.
        costs: predicted durations; observed ones correct them.
        config: of the relay.
        token_bytes: bytes that one token takes in the prefix cache.

    Attributes:
        delay: 99th percentile of the seconds that the last requests waited for a lane.
        rank_cost: 99th percentile of the predicted seconds of the last rankings on a prefix.
    """

    def __init__(
        self, name: str, clock: Clock, device: Device, costs: Costs, config: RelayConfig, token_bytes: int
    ) -> None:
        self.name = name
        self.clock = clock
        self.costs = costs
        self.config = config
        self.statistics = Statistics()
        self.window = LifecycleWindow(config.cache, config.rank_budget, clock.time())
        self.executor = Executor(
            clock, device, config.executor, config.trigger.fill_share, self._headroom, costs.observe
        )
        page_bytes = token_bytes * config.cache.page_tokens
        self.cache = PrefixCache(
            PageArena(int(config.cache.capacity_mib * _MIB), page_bytes),
            config.cache.page_tokens,
            evict_oldest=config.cache.eviction == "lru",
        )
        expander = config.expander
        self.expander = Expander(int(expander.capacity_mib * _MIB) if expander.enabled else 0, expander.seconds)
        self.fills = Fills(
            self.cache, self.expander, self.executor, costs, config.executor.chunk_tokens, self.statistics, clock.time
        )
        if expander.enabled:
            self.cache.on_spent = self.fills.copy_to_host
        self.delay = RecentQuantile(_HIGH)
        self.rank_cost = RecentQuantile(_HIGH)
        self._recent = RecentRequests(config.tombstone_seconds)
        self._promises = PromiseTimer(clock, self.cache)
        self._patience = Patience(config, costs, self.executor, self.fills)
        self._pending: dict[str, Pending] = {}
        self._gone = False

    def signal(self, signal: Signal) -> str:
        """Have a prefix run, unless it is here or comes too late.

        Returns:
            ``started``, ``hit``, ``joined``, ``late`` or ``refused`` (there is no room).
        """
        now = self.clock.time()
        self._recent.forget_old(now)
        entry, verdict = self._take_signal(signal, now)
        self.statistics.signals[verdict] += 1
        if verdict != "late":
            self._recent.announce(signal.request, now, entry)
        self._promises.watch()
        return verdict

    def rank(self, request: RankRequest, done: Callable[[Outcome], None]) -> None:
        """Have candidates scored; ``done`` is called exactly once, unless the request is cancelled."""
        now = self.clock.time()
        self._recent.forget_old(now)
        self.cache.expire(now)
        pending = Pending(request, done, now)
        if self._gone:
            self._send_elsewhere(pending)
            return
        self._pending[request.request] = pending
        announced = self._recent.come(request.request, now)
        if announced is not None:
            self.window.observe(now - announced.time, now)
        if request.relay and request.sizes.prefix:
            self._rank_on_prefix(pending, now)
        else:
            self._rank_in_full(pending)

    def cancel(self, request: str) -> None:
        """Nobody waits for this request any more; its signal, if still to come, is without effect."""
        announced = self._recent.come(request, self.clock.time())
        pending = self._pending.pop(request, None)
        if pending is not None:
            pending.cancel()
        if announced is not None and announced.entry is not None:
            self._release(announced.entry, request)

    def load(self) -> OwnerLoad:
        """What gateways want to know."""
        now = self.clock.time()
        self.cache.expire(now)
        return OwnerLoad(
            self.executor.rank_queue / self.executor.lanes,
            self.delay.value,
            self.executor.fill_queue,
            self.cache.free_bytes,
            self.cache.capacity_bytes,
            now,
        )

    def held(self, key: PrefixKey, fingerprint: bytes) -> str:
        """What is here of a prefix: ``ready`` (or on its way), ``copy`` (in host memory), or nothing."""
        if self.cache.get(key, fingerprint) is not None:
            return "ready"
        return "copy" if self.expander.get(key, fingerprint, self.clock.time()) is not None else ""

    def leave(self) -> None:
        """Leave the service: everything that waits is told at once to go elsewhere, and nothing is accepted any
        more."""
        self._gone = True
        for pending in list(self._pending.values()):
            self._send_elsewhere(pending)
        self._pending.clear()

    def _take_signal(self, signal: Signal, now: float) -> tuple[Entry | None, str]:
        if self._gone or self._recent.answered(signal.request) or now > signal.deadline:
            return None, "late"
        entry = self.cache.get(signal.key, signal.fingerprint)
        if entry is not None:
            self.cache.touch(entry, signal.request, now, self.window.seconds)
            return entry, "joined" if entry.state in (State.RESERVED, State.FILLING) else "hit"
        entry = self._reserve(signal, signal.tokens, now)
        if entry is None:
            return None, "refused"
        self.fills.begin(entry, signal.payload, self.expander.get(signal.key, signal.fingerprint, now))
        return entry, "started"

    def _reserve(self, asked: Signal | RankRequest, tokens: int, now: float) -> Entry | None:
        return self.cache.reserve(asked.key, asked.fingerprint, tokens, asked.request, now, self.window.seconds)

    def _rank_on_prefix(self, pending: Pending, now: float) -> None:
        """The request's own signal, so to speak, but one that must not compute: find, join, or bring back."""
        request = pending.request
        entry = self.cache.get(request.key, request.fingerprint)
        if entry is None:
            self._rank_without_entry(pending, now)
        elif entry.state in (State.READY, State.SPENT):
            self._score(pending, entry, "relay")
        else:
            fill: Fill = entry.fill
            spared = fill.begun or fill.copy is not None
            wait = self._patience.under_way(request, fill, now) if spared else self._patience.to_keep(request, now)
            if wait > 0:
                path: Path = "relay_joined" if fill.begun else "relay_reload" if spared else "full"
                self._wait(pending, fill, path, wait)
            else:
                self._release(entry, request.request)
                self._rank_in_full(pending)

    def _rank_without_entry(self, pending: Pending, now: float) -> None:
        request = pending.request
        copy = self.expander.get(request.key, request.fingerprint, now)
        left = request.deadline - now - self.costs.rank(request.sizes)
        in_time = copy is not None and self.costs.reload(copy.tokens) <= left
        patience = float("inf") if in_time else self._patience.to_keep(request, now)
        if patience > 0:
            entry = self._reserve(request, request.sizes.prefix, now)
            if entry is not None:
                fill = self.fills.begin(entry, request.payload, copy if in_time else None, deadline=request.deadline)
                self._wait(pending, fill, "relay_reload" if in_time else "full", patience)
                return
        self._rank_in_full(pending)

    def _wait(self, pending: Pending, fill: Fill, path: Path, patience: float) -> None:
        reached, since, worked = fill.tokens, self.clock.time(), fill.seconds

        def waited() -> None:
            # What the device did for the prefix meanwhile was no wait for a lane. Of a chunk that is under way at the
            # beginning all counts as done meanwhile, of one under way at the end nothing.
            pending.queued += max(self.clock.time() - since - (fill.seconds - worked), 0.0)

        def score() -> None:
            waited()
            self._score(pending, fill.entry, path)

        def give_up() -> None:
            waited()
            self._rank_in_full(pending)

        def leave() -> None:
            fill.waiters.remove(waiter)
            if not fill.waiters:
                fill.deadline = None
            self._release(fill.entry, pending.request.request)

        def impatient() -> None:
            nonlocal reached
            # Most of a fill that is only slower than foretold is done, and full inference would begin at the beginning;
            # one that still waits for a lane waits where full inference would.
            now, pending.timer = self.clock.time(), None
            moves = fill.tokens > reached or not fill.begun
            more = self._patience.under_way(pending.request, fill, now) if moves else 0.0
            if more > 0:
                reached, pending.timer = fill.tokens, self.clock.call_at(now + more, impatient)
                return
            pending.stop_waiting()
            leave()
            give_up()

        waiter = (pending, score, give_up)
        fill.waiters.append(waiter)
        pending.leave = leave
        if patience < float("inf"):
            pending.timer = self.clock.call_at(self.clock.time() + patience, impatient)
        self.fills.hurry(fill, pending.request.deadline)

    def _score(self, pending: Pending, entry: Entry, path: Path) -> None:
        if pending.over:
            self._release(entry, pending.request.request)
            return
        request, pages, tokens = pending.request, entry.pages, entry.tokens
        self.cache.pin(entry)
        cost = self.costs.rank(request.sizes)
        self.rank_cost.observe(cost)

        def choose() -> Work | None:
            if pending.over:
                self.cache.unpin(entry, request.request)
                return None
            pending.begin(self.clock.time())
            return Work("rank", request.sizes, cost, pages, end=tokens, payload=request.payload)

        def done(result: Any, error: BaseException | None, seconds: float) -> None:
            self.cache.unpin(entry, request.request)
            if error is None:
                self._answer(pending, path, result, request.sizes.prefix)
            else:
                self.cache.kill(entry)
                self._rank_in_full(pending)

        pending.asked = self.clock.time()
        self.executor.rank(choose, done, cost, request.deadline)

    def _rank_in_full(self, pending: Pending, *, last_resort: bool = False) -> None:
        request = pending.request
        tokens = 0 if last_resort else request.sizes.prefix

        def choose() -> Work | None:
            nonlocal tokens
            if pending.over:
                return None
            now = self.clock.time()
            pending.begin(now)
            remaining = request.deadline - now
            if self.config.degrade and self.costs.full(request.sizes._replace(prefix=tokens)) > remaining:
                tokens = self.costs.full_table.longest(remaining, request.sizes.candidates, tokens)
            sizes = request.sizes._replace(prefix=tokens)
            return Work("full", sizes, self.costs.full(sizes), payload=request.payload)

        def done(result: Any, error: BaseException | None, seconds: float) -> None:
            if error is not None and not last_resort:
                self._rank_in_full(pending, last_resort=True)
                return
            path: Path = "full" if tokens == request.sizes.prefix else "degraded"
            self._answer(pending, path, result, tokens, error)

        pending.asked = self.clock.time()
        self.executor.rank(choose, done, self.costs.full(request.sizes), request.deadline)

    def _answer(
        self, pending: Pending, path: Path, result: Any, tokens: int, error: BaseException | None = None
    ) -> None:
        self._pending.pop(pending.request.request, None)
        if pending.over:
            return
        now = self.clock.time()
        outcome = Outcome(path, result, tokens, pending.queued, now - pending.arrived, error)
        self.statistics.record(outcome)
        self.delay.observe(pending.queued)
        pending.answer(outcome)

    def _release(self, entry: Entry, request: str) -> None:
        """A request does without an entry; a fill that has not begun and that nobody else wants is called off."""
        self.cache.forget(entry, request)
        if entry.state is State.RESERVED and not entry.expected and not entry.fill.waiters:
            self.fills.call_off(entry)

    def _headroom(self) -> float:
        return self.config.rank_budget - self.rank_cost.value - self.executor.rank_queue

    def _send_elsewhere(self, pending: Pending) -> None:
        gone = InstanceGoneError(f"Instance {self.name} has left the service; send the request to another one.")
        pending.answer(Outcome("full", None, 0, 0.0, 0.0, gone))
