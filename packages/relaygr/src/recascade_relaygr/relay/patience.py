"""How long a ranking request waits for a prefix rather than being ranked in full (our design)."""

from __future__ import annotations

from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.executor import Executor
from recascade_relaygr.relay.fills import Fill, Fills
from recascade_relaygr.relay.requests import RankRequest

# A prefix is worth its memory where it shortens the ranking of a later visit to this share.
_WORTH = 0.5


class Patience:
    """Weighs a wait against full inference.

    Args:
        config: of the relay.
        costs: predicted durations.
        executor: whose queue requests wait in.
        fills: knows what is left of each.
    """

    def __init__(self, config: RelayConfig, costs: Costs, executor: Executor, fills: Fills) -> None:
        self.config = config
        self.costs = costs
        self.executor = executor
        self.fills = fills

    def under_way(self, request: RankRequest, fill: Fill, now: float) -> float:
        """Seconds for a prefix that is being run or brought back; 0 where the answer would come too late."""
        # Full inference would wait for a lane as long.
        lane = self._wait_for_lane()
        expected = lane + self.fills.remaining(fill)
        limit = request.deadline - now
        if not self.config.degrade:
            # An answer in full that is late anyway had better come from where it comes sooner.
            limit = max(limit, lane + self.costs.full(request.sizes))
        in_time = expected + self.costs.rank(request.sizes) <= limit
        return expected + self.config.join_slop_ms / 1e3 if in_time else 0.0

    def to_keep(self, request: RankRequest, now: float) -> float:
        """Seconds for a prefix that is run now, for this request and to stay; 0 where full inference is better.

        The work is about that of full inference. A user who comes back, or a burst that leaves no time to run prefixes
        ahead, then finds it there.
        """
        sizes, rank = request.sizes, self.costs.rank(request.sizes)
        if not self.config.fill_on_rank or rank > _WORTH * self.costs.full(sizes):
            return 0.0
        if not self.config.degrade:
            return float("inf")
        left = request.deadline - now - rank
        return left if self._wait_for_lane() + self.costs.prefill(sizes.prefix) <= left else 0.0

    def _wait_for_lane(self) -> float:
        return self.executor.rank_queue / self.executor.lanes
