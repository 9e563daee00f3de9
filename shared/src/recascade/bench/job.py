"""One run, from its configuration to its result: data → split → fit → evaluation → run directory."""

from __future__ import annotations

import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from recascade import __version__
from recascade.bench import store
from recascade.bench.config import RunConfig, as_dictionary, changes
from recascade.bench.ground import Ground, ground_of_split
from recascade.bench.list_source import prepared_lists
from recascade.bench.registry import find_method
from recascade.bench.reranking_job import measure_reranking
from recascade.bench.run_processes import run_in_processes
from recascade.bench.run_sources import check_sources
from recascade.contracts.method import FIT_FILE, Experiment, Method
from recascade.contracts.retriever import Retriever
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.errors import ConfigurationError, DataError, RecascadeError
from recascade.evaluation.evaluate import Evaluation, evaluate
from recascade.evaluation.requests import requests
from recascade.evaluation.shards import ALONE, Shard
from recascade.files import read_json, write_atomically, write_json
from recascade.serving.latency import measure_latency
from recascade.training.processes import current_place

LATENCY_REQUESTS = 200
"""Single requests whose latency is measured, drawn from the test users."""


def run_job(directory: Path, threads: int) -> dict[str, Any]:
    """Do what ``config.yaml`` of the run directory says and return what ``result.json`` holds afterwards.

    A fit that was interrupted goes on from its checkpoint. A failure is recorded, and raised. With ``trainer.devices``
    above 1 the fit and the evaluation are shared out among as many processes.

    Args:
        directory: a run directory with its ``config.yaml``.
        threads: CPU threads to compute with, in all.
    """
    torch.set_num_threads(threads)
    config = store.Run(directory).config
    method = find_method(config.method)
    started = _now()
    ground, measure = _prepare(config, method, directory)
    devices = config.trainer.devices
    if ground.fingerprint not in directory.parts[-4]:
        raise DataError(
            f"The data of {directory} have changed since the run began (now split {ground.fingerprint}); "
            "run the command again to measure on the new data."
        )
    check_sources(config, ground, directory)
    result = _identity(config, method, ground, threads, started)
    try:
        if devices > 1:
            measured = run_in_processes(measure_share, (directory, max(1, threads // devices)), devices)
        else:
            measured = _with_memory(measure())
        result |= measured | {"device": _device_name(measured["device"])}
    except Exception as error:
        problem = str(error) if isinstance(error, RecascadeError) else f"{type(error).__name__}: {error}"
        result |= {"status": "failed", "error": problem, "finished": _now()}
        write_json(directory / store.RESULT_FILE, _without_nan(result))
        raise
    result |= {"status": "finished", "error": None, "finished": _now()}
    write_json(directory / store.RESULT_FILE, _without_nan(result))
    return result


def measure_share(directory: Path, threads: int) -> dict[str, Any]:
    """The measured part of a run in one of several processes, which make the steps of one together and share out its
    evaluation; the first one writes."""
    torch.set_num_threads(threads)
    config = store.Run(directory).config
    place = current_place()
    backend = "gloo"
    if torch.cuda.is_available() and config.trainer.accelerator != "cpu":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(place.rank)
    torch.distributed.init_process_group(backend)
    _, measure = _prepare(config, find_method(config.method), directory, Shard(place.rank, place.processes))
    return _with_memory(measure())


def _with_memory(measured: dict[str, Any]) -> dict[str, Any]:
    measured["cost"]["peak_memory_bytes"] = peak_memory_bytes()
    return measured


def _prepare(
    config: RunConfig, method: Method, directory: Path, shard: Shard = ALONE
) -> tuple[Ground, Callable[[], dict[str, Any]]]:
    """The data that a run stands on, and what measures it there."""
    if method.stage == "re-ranking":
        prepared = prepared_lists(config)
        return prepared.ground, partial(measure_reranking, config, method, prepared, directory, shard)
    split = cached_split(resolve(config.data), config.split)
    data = encode(split)
    return ground_of_split(data.manifest), partial(_measure, config, method, data, split, directory, shard)


def _measure(
    config: RunConfig, method: Method, data: EncodedSplit, split: Split, directory: Path, shard: Shard
) -> dict[str, Any]:
    refit = config.trainer.refit
    experiment = _experiment(config, data, split, directory)
    if refit:
        experiment = replace(experiment, directory=directory / store.CHOICE_FOLDER)
    retriever, fit = _fit(method, experiment)
    device = str(getattr(retriever, "device", "cpu"))
    validation, validation_cost = _evaluate(retriever, data, "validation", config, device, shard)
    if refit:
        again = _experiment(config, data.with_validation_trained(), split, directory)
        if method.trained and "best_epoch" not in fit:
            raise ConfigurationError(
                f"trainer.refit trains for the epochs that validation chose, but {method.name!r} does not say how many "
                "these were; leave it out."
            )
        # What validation chose was the number of epochs; there is nothing left to choose.
        epochs = fit.get("best_epoch") or config.trainer.max_epochs
        trainer = replace(again.trainer, max_epochs=epochs, validate_every=0, patience=0)
        retriever, cost = _fit(method, replace(again, trainer=trainer))
        fit |= {name: fit[name] + cost[name] for name in ("fit_seconds", "fit_cpu_seconds")}
    test, test_cost = _evaluate(retriever, data, "test", config, device, shard)
    evaluation = {name: seconds + test_cost[name] for name, seconds in validation_cost.items()}
    if shard.rank == 0:
        _write_tables(test, data, directory)
    return {
        "metrics": {"validation": validation.summary, "test": test.summary},
        "groups": test.groups,
        "cost": {
            "epochs": None,
            "best_epoch": None,
            "parameters": None,
            "targets_per_second": None,
            **fit,
            **evaluation,
            "gpu_seconds": fit["fit_seconds"] * shard.count if device.startswith("cuda") else None,
            "latency_ms": _latency(retriever, config, data, device) if shard.rank == 0 else None,
        },
        "device": device,
    }


def _fit(method: Method, experiment: Experiment) -> tuple[Retriever, dict[str, Any]]:
    """The fitted method and what the fit cost; a resumed fit knows the cost of all its parts."""
    begin_wall, begin_cpu = time.perf_counter(), time.process_time()
    experiment.directory.mkdir(exist_ok=True)
    retriever = method.run(experiment)
    cost = {"fit_seconds": time.perf_counter() - begin_wall, "fit_cpu_seconds": time.process_time() - begin_cpu}
    facts = experiment.directory / FIT_FILE
    return retriever, cost | (read_json(facts) if facts.exists() else {})


def _evaluate(
    retriever: Retriever,
    data: EncodedSplit,
    part: Literal["validation", "test"],
    config: RunConfig,
    device: str,
    shard: Shard,
) -> tuple[Evaluation, dict[str, float]]:
    begin_wall, begin_cpu = time.perf_counter(), time.process_time()
    evaluation = evaluate(retriever, data, part, config.evaluation, device, shard)
    return evaluation, {
        "evaluation_seconds": time.perf_counter() - begin_wall,
        "evaluation_cpu_seconds": time.process_time() - begin_cpu,
    }


def _experiment(config: RunConfig, data: EncodedSplit, split: Split, run_directory: Path) -> Experiment:
    return Experiment(
        config=config.model,
        # The run's process has no terminal of its own; the command that started it shows how far it is.
        trainer=replace(config.trainer, progress=False),
        data=data,
        split=split,
        seed=config.seed,
        directory=run_directory,
        exclude_seen=config.evaluation.exclude_seen,
        shared=run_directory.parents[2] / store.SHARED_FOLDER,
    )


def _latency(retriever: Retriever, config: RunConfig, data: EncodedSplit, device: str) -> dict[str, Any]:
    rows = np.random.default_rng(config.evaluation.seed).permutation(len(data.test))[:LATENCY_REQUESTS]
    contexts = [requests(data.events, data.test, rows[number : number + 1]) for number in range(len(rows))]
    settings = config.evaluation
    latency = measure_latency(retriever, contexts, settings.length, exclude_seen=settings.exclude_seen, device=device)
    return {"p50": latency.p50, "p99": latency.p99, "batch": 1, "requests": latency.requests, "clock": latency.clock}


def _write_tables(test: Evaluation, data: EncodedSplit, directory: Path) -> None:
    import polars as pl

    with write_atomically(directory / store.METRICS_FILE) as temporary:
        test.per_user.write_parquet(temporary)
    items = data.items.decode(np.maximum(test.lists, 0).ravel())
    lists = (
        pl.DataFrame({"user": np.repeat(np.arange(len(test.lists)), test.lists.shape[1]), "items": items})
        .filter(pl.Series(test.lists.ravel() >= 0))
        .group_by("user", maintain_order=True)
        .agg("items")
    )
    whole = pl.DataFrame({"user": np.arange(len(test.lists)), "user_id": test.per_user["user_id"]})
    with write_atomically(directory / store.LISTS_FILE) as temporary:
        whole.join(lists, on="user", how="left", maintain_order="left").drop("user").write_parquet(temporary)


def _identity(config: RunConfig, method: Method, ground: Ground, threads: int, started: str) -> dict[str, Any]:
    complete = as_dictionary(config)
    return {
        "format": 1,
        "method": config.method,
        "variant": config.variant,
        "overrides": changes(config),
        "seed": config.seed,
        "stage": method.stage,
        "trained": method.trained,
        "source": method.source,
        "data": dict(ground.data),
        "split": dict(ground.split),
        "evaluation": complete["evaluation"],
        "metrics": {"validation": {}, "test": {}},
        "groups": {},
        "cost": None,
        "versions": _versions(),
        "device": _device_name("cpu"),
        "threads": threads,
        "started": started,
    }


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _versions() -> dict[str, str]:
    found = {"recascade": __version__, "python": platform.python_version()}
    for name in ("torch", "lightning", "numpy", "polars", "pyarrow", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: a metric that nobody has becomes null."""
    if isinstance(value, Mapping):
        return {key: _without_nan(member) for key, member in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
