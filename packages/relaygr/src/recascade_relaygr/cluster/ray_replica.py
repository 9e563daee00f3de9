"""One instance of the ranking stage as a replica of Ray Serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recascade.serving.one_thread import compute_on_one_thread
from recascade_relaygr.engine.of_run import engine_of
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.requests import Outcome, OwnerLoad, RankRequest, Signal
from recascade_relaygr.run_folder import read_run
from recascade_relaygr.serve_config import ServeConfig


@dataclass(frozen=True)
class Report:
    """What a replica tells of itself.

    Attributes:
        name: of the replica.
        load: for the trigger; ``measured`` is the replica's clock, which is not the gateway's.
        statistics: as ``RelayEngine.stats``.
    """

    name: str
    load: OwnerLoad
    statistics: dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What does not change while a replica runs.

    Attributes:
        version: of the weights.
        max_length: events that the ranker reads.
        page_bytes: of the prefix cache.
        costs: predicted durations, as measured when the replica began.
        prefix_error: the largest error that the safety check found.
    """

    version: str
    max_length: int
    page_bytes: int
    costs: Costs
    prefix_error: float


class RankerReplica:
    """The relay's own instance behind three calls and their facts, none of which calls another machine.

    Deadlines of requests are sent as seconds that are left, since clocks differ.

    Args:
        directory: of the run.
        config: of the service.
        relay: of the relay.
    """

    def __init__(self, directory: str, config: ServeConfig, relay: RelayConfig) -> None:
        from ray import serve

        compute_on_one_thread()
        run = read_run(Path(directory))
        self._engine = engine_of(run, config, relay, instances=1)
        self._name: str = serve.get_replica_context().replica_id.unique_id
        self._instance = next(iter(self._engine.instances.values()))

    def facts(self) -> Facts:
        """For the gateway, once."""
        engine = self._engine
        page_bytes = self._instance.cache.arena.page_bytes
        return Facts(engine.version, engine.ranker.max_length, page_bytes, engine.costs, engine.prefix_error)

    async def report(self) -> Report:
        """For the gateway, again and again."""
        return Report(self._name, self._instance.load(), self._engine.stats())

    async def signal(self, signal: Signal) -> tuple[str, OwnerLoad]:
        """What became of a signal, and the load after it."""
        here = replace(signal, deadline=self._engine.loop.time() + signal.deadline)
        return self._instance.signal(here), self._instance.load()

    async def rank(self, request: RankRequest) -> tuple[str, Outcome, OwnerLoad]:
        """Who answers, the answer, and the load after it."""
        answer: asyncio.Future[Outcome] = self._engine.loop.create_future()
        self._instance.rank(
            replace(request, deadline=self._engine.loop.time() + request.deadline),
            lambda outcome: None if answer.done() else answer.set_result(outcome),
        )
        try:
            return self._name, await answer, self._instance.load()
        except asyncio.CancelledError:
            self._instance.cancel(request.request)
            raise
