"""Which requests are worth a prefix run ahead of time.

The paper: an admission controller that predicts from light metadata whether inline ranking would miss its P99, admits
only such requests, and bounds both the live footprint and the load of running prefixes. The inequalities are ours.
"""

from __future__ import annotations

from typing import NamedTuple

from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.observed_quantile import ObservedQuantile
from recascade_relaygr.relay.rates import TokenBucket
from recascade_relaygr.relay.requests import OwnerLoad, Sizes

_EARLY = 0.1


class Decision(NamedTuple):
    """Whether a prefix is to be run early.

    ``reason``: ``at-risk`` (admitted), ``not-at-risk``, ``too-long`` (not even the relay fits the budget, so the
    history is to be cut to ``prefix_tokens``, and nothing is left to relay), ``too-late`` (it would not be ready in
    time), ``owner-unknown``, ``no-room``, ``load``, ``no-owner``.
    """

    admitted: bool
    reason: str
    prefix_tokens: int


class Trigger:
    """Decides in O(1), from tables and counters.

    A request is admitted if, with ``Q`` the wait at the owner now or its 99th percentile of late, ``B`` the ranking
    budget, ``risk`` a share of it, and ``T`` predicted 99th percentiles::

        at risk    Q + T_full + guard > risk · B
        useful     T_rank ≤ B                      (otherwise the history is cut until it holds)
        in time    Q_fill + T_prefill ≤ slack + B - T_rank - guard
                                                   (T_reload where host memory holds the prefix, 0 where it is ready;
                                                   Q + T_full for B where that is more and no history may be shortened)
        footprint  bytes ≤ what the owner can reserve
        load       T_prefill ≤ the owner's bucket, refilled with ρ · lanes seconds per second, and
                   bytes ≤ another one, refilled with capacity / window bytes per second (Little's law)

    Args:
        config: of the relay.
        costs: predicted durations.
        now: clock time.
    """

    def __init__(self, config: RelayConfig, costs: Costs, now: float) -> None:
        self.config = config
        self.costs = costs
        self.slack = ObservedQuantile(_EARLY, config.trigger.slack_ms / 1e3, now)
        self._seconds: dict[str, TokenBucket] = {}
        self._bytes: dict[str, TokenBucket] = {}

    def decide(
        self, owner: str, sizes: Sizes, size: int, load: OwnerLoad | None, now: float, *, held: str = ""
    ) -> Decision:
        """Whether the owner should run a prefix now.

        Args:
            owner: the instance; empty where none is up.
            sizes: tokens and candidates that are expected.
            size: bytes of the prefix.
            load: of the owner; None where nothing is known of it.
            now: clock time.
            held: what the owner already has: ``ready``, ``copy`` (in host memory), or nothing.
        """
        config = self.config
        if not owner:
            return Decision(False, "no-owner", sizes.prefix)
        if load is not None and now - load.measured > config.trigger.stale_seconds:
            load = None
        budget = config.rank_budget
        waiting = max(load.rank_queue, load.rank_delay) if load is not None else 0.0
        full = waiting + self.costs.full(sizes)
        if config.trigger.enabled:
            if full + config.trigger.guard_ms / 1e3 <= config.trigger.risk_share * budget:
                return Decision(False, "not-at-risk", sizes.prefix)
            if self.costs.rank(sizes) > budget:
                shortened = self._affordable(sizes, budget)
                if not shortened:
                    return Decision(False, "too-long", 0)
                size = size * shortened // sizes.prefix
                sizes = sizes._replace(prefix=shortened)
            if load is None:
                return Decision(False, "owner-unknown", sizes.prefix)
        cost = self._fill_seconds(sizes.prefix, held)
        if load is not None and held != "ready":
            # A ranking request can wait for its prefix as long as it will still be answered in time, or sooner than by
            # full inference that is late anyway.
            limit = budget if config.degrade else max(budget, full)
            patience = max(limit - self.costs.rank(sizes) - config.trigger.guard_ms / 1e3, 0.0)
            ready = load.fill_queue / config.executor.lanes + cost
            if config.trigger.enabled and ready > self.slack.value + patience:
                return Decision(False, "too-late", sizes.prefix)
            if size > load.free_bytes:
                return Decision(False, "no-room", sizes.prefix)
        if config.trigger.enabled and not self._take(owner, cost, size, load, now):
            return Decision(False, "load", sizes.prefix)
        return Decision(True, "at-risk", sizes.prefix)

    def _affordable(self, sizes: Sizes, budget: float) -> int:
        """The longest prefix that ranking can afford, in whole pages, so that its states can be used again."""
        longest = self.costs.rank_table.longest(budget, sizes.candidates, sizes.prefix)
        return longest - longest % self.config.cache.page_tokens

    def _fill_seconds(self, tokens: int, held: str) -> float:
        if held == "ready":
            return 0.0
        return self.costs.reload(tokens) if held == "copy" else self.costs.prefill(tokens)

    def _take(self, owner: str, cost: float, size: int, load: OwnerLoad | None, now: float) -> bool:
        config = self.config
        if owner not in self._seconds:
            rate = config.trigger.fill_share * config.executor.lanes
            self._seconds[owner] = TokenBucket(rate, config.trigger.burst_seconds, now)
            capacity = load.capacity_bytes if load is not None else size
            self._bytes[owner] = TokenBucket(capacity / (config.cache.window_ms / 1e3), capacity, now)
        return self._seconds[owner].take(cost, now) and (not cost or self._bytes[owner].take(size, now))
