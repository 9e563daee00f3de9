"""The relay on Ray Serve: each instance a replica, and one gateway before them in this process."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from torch import Tensor

from recascade.contracts.context import Context
from recascade.errors import MissingDependencyError, RecascadeError
from recascade_relaygr.cluster.held_prefixes import HeldPrefixes
from recascade_relaygr.engine.engine import Answer
from recascade_relaygr.engine.history import RankInput, cut, fingerprint
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.gateway import Gateway
from recascade_relaygr.relay.instance import InstanceGoneError
from recascade_relaygr.relay.requests import Outcome, PrefixKey, RankRequest, Signal, Sizes, Ticket
from recascade_relaygr.relay.router import Router
from recascade_relaygr.relay.trigger import Trigger
from recascade_relaygr.run_folder import read_run
from recascade_relaygr.serve_config import ServeConfig

try:
    import ray
    from ray import serve
    from ray.serve.config import RequestRouterConfig
except ImportError as error:
    raise MissingDependencyError('The engine "ray" needs Ray Serve: pip install "recascade-relaygr[ray]"') from error

from recascade_relaygr.cluster.ray_replica import Facts, RankerReplica, Report
from recascade_relaygr.cluster.ray_router import TicketRouter
from recascade_relaygr.cluster.remote_instance import RemoteInstance

_DEPLOYMENT = "ranker"
_START_SECONDS = 300.0
_PATIENCE_SECONDS = 1.0
_ONGOING = 64
_COUNTED = ("paths", "signals", "fills")
_SUMMED = ("errors", "prefix_bytes", "prefix_capacity_bytes", "copy_bytes", "rank_seconds", "fill_seconds")
_WORST = ("p50_ms", "p99_ms")


class RayEngine:
    """``RelayEngine`` with replicas of Ray Serve for instances: the same hints, tickets and answers.

    Joins the Ray cluster that ``RAY_ADDRESS`` names, or starts one on this machine. Trigger and ring stand here, in the
    process that answers HTTP; it learns the replicas' loads from their answers and from reports, which it asks for
    twice in the time after which the trigger would not believe them. A request whose replica is gone is answered by
    another one, in full. To be made and used on one running event loop.

    Args:
        directory: of the run, which every machine of the cluster must be able to read.
        config: of the service; ``instances`` is the number of replicas.
        relay: of the relay.

    Raises:
        DataError: the folder holds no finished run.
        RecascadeError: the replicas did not start.

    Attributes:
        application: its name in Ray Serve.
        handle: ``DeploymentHandle`` of the replicas.
    """

    def __init__(self, directory: Path, config: ServeConfig, relay: RelayConfig) -> None:
        relay.check()
        # A replica that cannot start is tried again and again, which takes a minute to be told.
        read_run(directory)
        self.config = relay
        self.application = f"relaygr-{uuid4().hex[:8]}"
        self.loop = asyncio.get_running_loop()
        self.reasons: Counter[str] = Counter()
        self.reports: dict[str, Report] = {}
        self.instances: dict[str, RemoteInstance] = {}
        self._numbers = count()
        self._started_ray = not ray.is_initialized()
        # Ray's waiting calls refuse a thread that runs an event loop, and its processes die with the thread that began
        # them.
        self._outside = ThreadPoolExecutor(1, "ray")
        try:
            self.handle, self._facts, reports = self._outside.submit(
                _deploy, self.application, directory.resolve(), config, relay
            ).result()
        except BaseException:
            self._outside.submit(_stop, self.application, whole=self._started_ray).result()
            self._outside.shutdown()
            raise
        self.version = self._facts.version
        self.prefix_error = self._facts.prefix_error
        self.router = Router([report.name for report in reports], relay.router)
        for report in reports:
            self._take(report)
        self.held = HeldPrefixes(relay.expander.seconds if relay.expander.enabled else 0.0)
        page_tokens = relay.cache.page_tokens
        self.gateway = Gateway(
            Trigger(relay, self._facts.costs, self.loop.time()),
            self.router,
            lambda name: self.instances[name].latest,
            lambda tokens: -(-tokens // page_tokens) * self._facts.page_bytes,
            lambda owner, key, content: self.held.held(owner, key, content, self.loop.time()),
        )
        self._watch = self.loop.create_task(self._keep_informed())

    def hint(self, user: str, history: Context, candidates: int, *, request: str = "") -> Ticket:
        """As ``RelayEngine.hint``."""
        given, key = self._input(history), PrefixKey(self.version, user)
        now = self.loop.time()
        content = fingerprint(given.history, given.prefix)
        events = history.items.numel()
        sizes = Sizes(given.prefix, given.history.items.numel() - given.prefix, candidates)
        name = request or f"request-{next(self._numbers)}"
        ticket = self.gateway.ticket(name, key, content, sizes, now, events - given.history.items.numel())
        self.reasons[ticket.reason] += 1
        if ticket.admitted:
            shortened = given.with_prefix(ticket.prefix_tokens)
            if shortened is not given:
                content = fingerprint(shortened.history, shortened.prefix)
            deadline = now + self.reports[ticket.owner].window
            signal = Signal(ticket.request, key, content, shortened.prefix, deadline, shortened)
            self.instances[ticket.owner].signal(signal)
        return ticket

    async def rank(
        self, user: str, history: Context, items: Tensor, ticket: Ticket | None = None, *, budget: float | None = None
    ) -> Answer:
        """As ``RelayEngine.rank``."""
        now = self.loop.time()
        given = self._input(history, items, ticket)
        name = ticket.request if ticket is not None else f"request-{next(self._numbers)}"
        owner, relay = self.gateway.route(ticket, user, name, now)
        request = RankRequest(
            request=name,
            key=PrefixKey(self.version, user),
            fingerprint=fingerprint(given.history, given.prefix) if relay else b"",
            sizes=Sizes(given.prefix, given.history.items.numel() - given.prefix, items.numel()),
            deadline=now + (self.config.rank_budget if budget is None else budget),
            payload=given,
            relay=relay,
        )
        outcome = await self._ask(owner, request)
        if isinstance(outcome.error, InstanceGoneError):
            owner = next((other for other in self.router.ring.owners(user) if other != owner), owner)
            outcome = await self._ask(owner, replace(request, fingerprint=b"", relay=False))
        if outcome.error is not None:
            raise outcome.error
        self.held.learn(owner, request.key, request.fingerprint, outcome.path, self.loop.time())
        return Answer(outcome.result, outcome.path, outcome.prefix_tokens + request.sizes.recent, outcome.served * 1e3)

    def stats(self) -> dict[str, Any]:
        """As ``RelayEngine.stats``, over all replicas that are up, as of their latest reports."""
        everyone = [report.statistics for report in list(self.reports.values())]
        paths = sum((Counter(each["paths"]) for each in everyone), Counter[str]())
        answers = sum(paths.values())
        counted = {name: dict(sum((Counter(each[name]) for each in everyone), Counter[str]())) for name in _COUNTED}
        return {
            "answers": answers,
            "shares": {path: number / answers for path, number in paths.items()},
            "decisions": dict(self.reasons),
            "prefix_error": self.prefix_error,
            **counted,
            **{name: sum(each[name] for each in everyone) for name in _SUMMED},
            **{name: max((each[name] for each in everyone), default=0.0) for name in _WORST},
        }

    def close(self) -> None:
        """Stop the replicas, and Ray where it was started here."""
        self._watch.cancel()
        self._outside.submit(_stop, self.application, whole=self._started_ray).result()
        self._outside.shutdown()

    async def _ask(self, owner: str, request: RankRequest) -> Outcome:
        answer: asyncio.Future[Outcome] = self.loop.create_future()
        instance = self.instances.get(owner)
        if instance is None:
            raise RecascadeError(
                "No replica of the ranking stage is up; look at 'ray status' and the log of Ray Serve."
            )
        instance.rank(request, lambda outcome: None if answer.done() else answer.set_result(outcome))
        try:
            return await answer
        except asyncio.CancelledError:
            instance.cancel(request.request)
            raise

    async def _keep_informed(self) -> None:
        """Ask all replicas for reports, again and again; who does not report any more is gone."""
        while True:
            await asyncio.sleep(self.config.trigger.stale_seconds / 2)
            try:
                reports = await self.handle.broadcast("report").results_async()
            except Exception:
                continue
            for report in reports:
                self._take(report)
            for name in set(self.instances) - {report.name for report in reports}:
                self._forget(name)

    def _take(self, report: Report) -> None:
        self.reports[report.name] = report
        known = self.instances.get(report.name)
        if known is None:
            self.instances[report.name] = RemoteInstance(
                report.name, self.handle, self.loop, _PATIENCE_SECONDS, report.load
            )
            if report.name not in self.router.members:
                self.router.add(report.name)
        else:
            known.tell(report.load)

    def _forget(self, name: str) -> None:
        if self.instances.pop(name, None) is not None:
            self.reports.pop(name, None)
            self.router.remove(name)

    def _input(self, history: Context, items: Tensor | None = None, ticket: Ticket | None = None) -> RankInput:
        """The history as the ranker reads it, cut as the ticket's was, so that the prefix is the same."""
        events, most = history.items.numel(), self._facts.max_length
        start, prefix = cut(events, most, self.config.cache.page_tokens)
        if ticket is not None and ticket.admitted and ticket.prefix_tokens <= events - ticket.start <= most:
            start, prefix = ticket.start, ticket.prefix_tokens
        kept = history.last(events - start) if start else history
        return RankInput(kept, prefix, None if items is None else items[None])


def _deploy(
    application: str, directory: Path, config: ServeConfig, relay: RelayConfig
) -> tuple[Any, Facts, list[Report]]:
    """The deployment's handle, what its replicas have in common, and a report of each, once all are up."""
    if not ray.is_initialized():
        # Ray would tell its makers of each use.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled")
    replica: Any = serve.deployment(
        RankerReplica,
        name=_DEPLOYMENT,
        num_replicas=config.instances,
        max_ongoing_requests=_ONGOING,
        # A replica claims no processor, since its lanes share those that there are; a device is claimed whole.
        ray_actor_options={"num_cpus": 0, "num_gpus": int(config.device.startswith("cuda"))},
        request_router_config=RequestRouterConfig(
            request_router_class=cast(Any, TicketRouter),
            request_router_kwargs={"num_virtual_nodes": relay.router.virtual_nodes},
        ),
    )
    try:
        handle = serve.run(replica.bind(str(directory), config, relay), name=application, route_prefix=None)
    except RuntimeError as error:
        raise RecascadeError(f"The replicas of {directory} did not start: {error}") from error
    facts: Facts = handle.facts.remote().result(timeout_s=_START_SECONDS)
    end = time.monotonic() + _START_SECONDS
    while True:
        reports: list[Report] = handle.broadcast("report").results(timeout_s=_START_SECONDS)
        if len(reports) >= config.instances:
            return handle, facts, reports
        if time.monotonic() > end:
            raise RecascadeError(
                f"Only {len(reports)} of {config.instances} replicas started in {_START_SECONDS:.0f} seconds; "
                "'ray status' tells what is missing."
            )
        time.sleep(0.1)


def _stop(application: str, *, whole: bool) -> None:
    if not ray.is_initialized():
        return
    serve.delete(application)
    if whole:
        serve.shutdown()
        ray.shutdown()
