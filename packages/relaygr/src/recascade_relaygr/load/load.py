"""``recascade relaygr load``: one load against an engine of this process or against a service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recascade.serving.one_thread import compute_on_one_thread
from recascade.settings import compose_sections
from recascade_relaygr.engine.of_run import engine_of
from recascade_relaygr.load.config import LoadConfig
from recascade_relaygr.load.generator import LoadResult, run_load
from recascade_relaygr.load.schedule import Visit, plan
from recascade_relaygr.load.targets import EngineTarget, HttpTarget
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.run_folder import ServedRun, read_run
from recascade_relaygr.serve_config import ServeConfig


def measure_load(directory: Path, options: Mapping[str, Any], url: str = "") -> dict[str, Any]:
    """Send the users of a run, and tell how they fared.

    Args:
        directory: of one run of ``recascade run relaygr``; users, histories and items are its own.
        options: dotted keys of ``load.…``; without a URL also of ``serve.…`` and ``relay.…``.
        url: of a service that serves the run; nothing makes an engine in this process.

    Returns:
        What ``LoadResult.summary`` says, and, for an engine in this process, its statistics.

    Raises:
        DataError: the folder holds no finished run.
        ConfigurationError: an unknown option, or a value that cannot work.
    """
    schema = {"load": LoadConfig} if url else {"load": LoadConfig, "serve": ServeConfig, "relay": RelayConfig}
    sections = compose_sections(schema, options)
    config: LoadConfig = sections["load"]
    run = read_run(directory)
    visits = plan(config, run.histories, list(run.items))
    if url:
        return asyncio.run(_ask_service(url, visits, config)).summary()
    compute_on_one_thread()
    return asyncio.run(_ask_engine(run, visits, config, sections["serve"], sections["relay"]))


async def _ask_service(url: str, visits: list[Visit], config: LoadConfig) -> LoadResult:
    target = HttpTarget(url, config.connections)
    try:
        return await run_load(target, visits, config)
    finally:
        target.close()


async def _ask_engine(
    run: ServedRun, visits: list[Visit], config: LoadConfig, serve: ServeConfig, relay: RelayConfig
) -> dict[str, Any]:
    engine = engine_of(run, serve, relay, instances=serve.instances)
    try:
        result = await run_load(EngineTarget(engine, run), visits, config)
        return {**result.summary(), "engine": engine.stats()}
    finally:
        engine.close()
