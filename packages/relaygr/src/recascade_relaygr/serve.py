"""``recascade serve relaygr RUN``: the HTTP service of a trained ranker with its relay."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recascade.serving.http import application
from recascade.serving.metrics import Metrics
from recascade.serving.one_thread import compute_on_one_thread
from recascade.settings import compose_sections
from recascade_relaygr.engine.front import Engine
from recascade_relaygr.engine.host import EngineHost
from recascade_relaygr.engine.of_run import engine_of
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.run_folder import ServedRun, read_run
from recascade_relaygr.serve_config import ServeConfig
from recascade_relaygr.service import RelayService

if TYPE_CHECKING:
    from starlette.applications import Starlette


def serve(directory: Path, options: Mapping[str, Any]) -> Starlette:
    """The application of a run.

    Args:
        directory: of one run of ``recascade run relaygr``.
        options: dotted keys, as ``{"relay.rank_budget_ms": 30}``; see ``ServeConfig`` and ``RelayConfig``.

    Raises:
        DataError: the folder holds no finished run.
        ConfigurationError: an unknown option, or a value that cannot work.
        PrefixUnsafeError: the stored states are too imprecise for the tolerance.
        MissingDependencyError: ``serve.engine=ray`` without Ray.
    """
    sections = compose_sections({"serve": ServeConfig, "relay": RelayConfig}, options)
    config: ServeConfig = sections["serve"]
    compute_on_one_thread()
    run = read_run(directory)
    service = RelayService(run, _host(directory, run, config, sections["relay"]), config)
    metrics = Metrics()
    service.follow(metrics)
    return application(service.routes(), metrics, health=service.health, threads=config.threads, close=service.close)


def _host(directory: Path, run: ServedRun, config: ServeConfig, relay: RelayConfig) -> EngineHost[Engine]:
    if config.engine == "ray":
        from recascade_relaygr.cluster.ray_engine import RayEngine

        return EngineHost(partial(RayEngine, directory, config, relay))
    return EngineHost(partial(engine_of, run, config, relay, instances=config.instances))
