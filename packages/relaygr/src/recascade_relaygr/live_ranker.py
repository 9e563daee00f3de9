"""RelayGR inside a cascade: the engine, asked from the threads of another service."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.hinted_ranker import Scored
from recascade_relaygr.engine.engine import RelayEngine
from recascade_relaygr.engine.host import EngineHost
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.requests import Ticket


class LiveRanker:
    """A ``recascade.contracts.hinted_ranker.HintedRanker``: hints run prefixes while candidates are being found.

    Args:
        ranker: trained.
        items: size of its catalogue.
        budget: seconds that a ranking may take; below it the relay sees no need to run a prefix.
    """

    def __init__(self, ranker: HSTURanker, items: int, budget: float) -> None:
        config = RelayConfig(rank_budget_ms=1e3 * budget)
        self.host = EngineHost(partial(RelayEngine, ranker.cpu().eval(), items, config))

    def hint(self, user: str, context: Context, candidates: int) -> Ticket:
        """Let the relay decide whether to run the prefix now."""
        return self.host.call(self.host.engine.hint, user, context, candidates)

    def rank(self, user: str, context: Context, items: Tensor, ticket: Ticket | None, budget: float) -> Scored:
        """On the prefix where it is there, in full where it is not, on the newest events where time is too short."""
        answer = self.host.wait(self.host.engine.rank(user, context, items[0], ticket, budget=budget))
        return Scored(answer.scores[None], answer.path != "degraded")

    def close(self) -> None:
        """Stop the engine."""
        self.host.close()
