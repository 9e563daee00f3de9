"""The relay on Ray Serve: each instance a replica, and one gateway before them in this process."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from recascade.errors import MissingDependencyError, RecascadeError
from recascade_relaygr.cluster.held_prefixes import HeldPrefixes
from recascade_relaygr.engine.front import RelayFront
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.requests import Outcome, RankRequest
from recascade_relaygr.run_folder import read_run
from recascade_relaygr.serve_config import ServeConfig

try:
    import ray
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.config import RequestRouterConfig
    from ray.serve.exceptions import RayServeException
except ImportError as error:
    raise MissingDependencyError('The engine "ray" needs Ray Serve: pip install "recascade-relaygr[ray]"') from error

from recascade_relaygr.cluster.ray_replica import Facts, RankerReplica, Report
from recascade_relaygr.cluster.ray_router import TicketRouter
from recascade_relaygr.cluster.remote_instance import RemoteInstance

_DEPLOYMENT = "ranker"
_START_SECONDS = 300.0
_PATIENCE_SECONDS = 1.0
_ONGOING = 64
_log = logging.getLogger(__name__)
_COUNTED = ("paths", "signals", "fills")
_SUMMED = ("errors", "prefix_bytes", "prefix_capacity_bytes", "copy_bytes", "rank_seconds", "fill_seconds")
_WORST = ("p50_ms", "p99_ms")


class RayEngine(RelayFront):
    """The front of the relay before replicas of Ray Serve.

    Joins the Ray cluster that ``RAY_ADDRESS`` names, or starts one on this machine. Trigger and ring stand here, in the
    process that answers HTTP; it learns the replicas' loads from their answers and from reports, which it asks for
    twice in the time after which the trigger would not believe them. To be made and used on one running event loop.

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
        instances: replicas that are up, by name.
    """

    def __init__(self, directory: Path, config: ServeConfig, relay: RelayConfig) -> None:
        relay.check()
        # A replica that cannot start is tried again and again, which takes a minute to be told.
        read_run(directory)
        self.application = f"relaygr-{uuid4().hex[:8]}"
        self.instances: dict[str, RemoteInstance] = {}
        self._reports: dict[str, Report] = {}
        self._held = HeldPrefixes(relay.expander.seconds if relay.expander.enabled else 0.0)
        self._started_ray = not ray.is_initialized()
        # Ray's waiting calls refuse a thread that runs an event loop, and its processes die with the thread that began
        # them.
        self._outside = ThreadPoolExecutor(1, "ray")
        try:
            self.handle, facts, reports = self._outside.submit(
                _deploy, self.application, directory.resolve(), config, relay
            ).result()
        except BaseException:
            self._outside.submit(_stop, self.application, whole=self._started_ray).result()
            self._outside.shutdown()
            raise
        self.prefix_error = facts.prefix_error
        page_tokens = relay.cache.page_tokens
        super().__init__(
            relay,
            facts.costs,
            self.instances,
            lambda tokens: -(-tokens // page_tokens) * facts.page_bytes,
            version=facts.version,
            max_length=facts.max_length,
        )
        for report in reports:
            self._take(report)
        self._watch = self.loop.create_task(self._keep_informed())

    def learn(self, owner: str, request: RankRequest, outcome: Outcome) -> None:
        """Remember who holds the prefix now."""
        self._held.learn(owner, request.key, request.fingerprint, outcome.path, self.loop.time())

    def stats(self) -> dict[str, Any]:
        """As ``RelayEngine.stats``, over all replicas that are up, as of their latest reports."""
        everyone = [report.statistics for report in self._reports.values()]
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
        self.loop.call_soon_threadsafe(self._watch.cancel)
        self._outside.submit(_stop, self.application, whole=self._started_ray).result()
        self._outside.shutdown()

    async def _keep_informed(self) -> None:
        """Ask all replicas for reports, again and again; who does not report any more is gone."""
        while True:
            await asyncio.sleep(self.config.trigger.stale_seconds / 2)
            try:
                reports: list[Report] = await self.handle.broadcast("report").results_async()
            except (RayError, RayServeException) as error:
                # The replica that has just died is left out next time.
                _log.warning("the replicas did not report: %s", error)
                continue
            for report in reports:
                self._take(report)
            for name in set(self.instances) - {report.name for report in reports}:
                self.router.remove(name)
                del self.instances[name], self._reports[name]

    def _take(self, report: Report) -> None:
        self._reports[report.name] = report
        if report.name in self.instances:
            self.instances[report.name].tell(report.load)
        else:
            self.instances[report.name] = RemoteInstance(
                report.name, self.handle, self.loop, self._held, _PATIENCE_SECONDS, report.load
            )
            self.router.add(report.name)


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
        # Replicas start one after the other, and Serve tells of them only when asked.
        time.sleep(0.1)


def _stop(application: str, *, whole: bool) -> None:
    if not ray.is_initialized():
        return
    serve.delete(application)
    if whole:
        serve.shutdown()
        ray.shutdown()
