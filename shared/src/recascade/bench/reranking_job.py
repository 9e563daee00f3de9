"""The measured part of a re-ranking run: fit on the lists of each round, re-order the test lists, write the tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from recascade.bench import store
from recascade.bench.config import RunConfig
from recascade.bench.list_source import PreparedLists
from recascade.contracts.method import FIT_FILE, Method, RerankingExperiment
from recascade.contracts.reranker import Reranker
from recascade.data.reranking_lists import RerankingLists
from recascade.evaluation.evaluate_lists import ListEvaluation, evaluate_lists, group_means
from recascade.evaluation.shards import ALONE, Shard
from recascade.files import read_json, write_atomically
from recascade.serving.latency import Latency, measure_calls

LATENCY_LISTS = 200
"""Single lists whose latency is measured, drawn from the test lists."""

_FIT_FACTS = ("epochs", "best_epoch", "parameters", "targets_per_second")
_SPENT = ("fit_seconds", "fit_cpu_seconds", "evaluation_seconds", "evaluation_cpu_seconds")


@dataclass(frozen=True)
class _Round:
    """One fit and what was measured of it."""

    lists: RerankingLists
    validation: ListEvaluation
    test: ListEvaluation
    cost: dict[str, Any]
    latency: Latency
    device: str


def measure_reranking(
    config: RunConfig, method: Method, prepared: PreparedLists, directory: Path, shard: Shard = ALONE
) -> dict[str, Any]:
    """Metrics, groups and cost for ``result.json``; ``metrics.parquet`` and ``lists.parquet`` are written.

    With several rounds, the test lists of all of them are one table, and costs are sums. Where several processes share
    the run, the first one writes.
    """
    one = len(prepared.rounds) == 1
    rounds = [
        _measure_round(config, method, lists, directory if one else directory / name, shard)
        for name, lists in prepared.rounds.items()
    ]
    per_list = pl.concat([each.test.per_list for each in rounds])
    names = [name for name, dtype in per_list.schema.items() if dtype.is_float()]
    if shard.rank == 0:
        with write_atomically(directory / store.METRICS_FILE) as temporary:
            per_list.write_parquet(temporary)
        with write_atomically(directory / store.LISTS_FILE) as temporary:
            pl.concat([_orders(each) for each in rounds]).write_parquet(temporary)
    costs = [each.cost for each in rounds]
    on_gpu = rounds[0].device.startswith("cuda")
    return {
        "metrics": {"validation": _means(rounds, "validation"), "test": _means(rounds, "test")},
        "groups": group_means(per_list, names),
        "cost": {
            **{name: _single([cost.get(name) for cost in costs]) for name in _FIT_FACTS},
            **{name: sum(cost[name] for cost in costs) for name in _SPENT},
            "gpu_seconds": sum(cost["fit_seconds"] for cost in costs) * shard.count if on_gpu else None,
            "latency_ms": {
                "p50": _mean([each.latency.p50 for each in rounds]),
                "p99": max(each.latency.p99 for each in rounds),
                "batch": 1,
                "requests": sum(each.latency.requests for each in rounds),
                "clock": rounds[0].latency.clock,
            },
        },
        "device": rounds[0].device,
    }


def _measure_round(config: RunConfig, method: Method, lists: RerankingLists, directory: Path, shard: Shard) -> _Round:
    directory.mkdir(exist_ok=True)
    experiment = RerankingExperiment(
        config=config.model,
        trainer=replace(config.trainer, progress=False),
        lists=lists,
        seed=config.seed,
        directory=directory,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    reranker = method.run_on_lists(experiment)
    cost: dict[str, Any] = {
        "fit_seconds": time.perf_counter() - wall,
        "fit_cpu_seconds": time.process_time() - cpu,
    }
    facts = directory / FIT_FILE
    cost |= read_json(facts) if facts.exists() else {}
    device = str(getattr(reranker, "device", "cpu"))
    wall, cpu = time.perf_counter(), time.process_time()
    validation = evaluate_lists(reranker, lists, "validation", config.evaluation, device, shard)
    test = evaluate_lists(reranker, lists, "test", config.evaluation, device, shard)
    cost |= {
        "evaluation_seconds": time.perf_counter() - wall,
        "evaluation_cpu_seconds": time.process_time() - cpu,
    }
    return _Round(lists, validation, test, cost, _latency(reranker, lists, device), device)


def _latency(reranker: Reranker, lists: RerankingLists, device: str) -> Latency:
    """Of re-ordering one list that is already encoded."""
    rows = np.random.default_rng(0).permutation(lists.rows("test"))[:LATENCY_LISTS]
    batches = [lists.batch(rows[number : number + 1]).without_labels() for number in range(len(rows))]
    calls = [lambda batch=batch: reranker.rerank(batch.to(device), batch.labels.shape[1]) for batch in batches]
    return measure_calls(calls, device=device)


def _orders(measured: _Round) -> pl.DataFrame:
    """One row per test list: ``list_id`` and ``order``, the initial places (from 0) in their new order."""
    orders = pl.Series("order", [order[order >= 0].tolist() for order in measured.test.orders], dtype=pl.List(pl.Int64))
    return pl.DataFrame({"list_id": measured.test.per_list["list_id"], "order": orders})


def _means(rounds: Sequence[_Round], part: Literal["validation", "test"]) -> dict[str, float]:
    """Means over the lists of all rounds."""
    found: list[ListEvaluation] = [getattr(each, part) for each in rounds]
    weights = [len(each.per_list) for each in found]
    per_list = pl.concat([each.per_list for each in found])
    means: dict[str, float] = {}
    for name in found[0].summary:
        if name in per_list.columns:
            mean = per_list[name].mean()
            means[name] = float("nan") if mean is None else float(mean)  # type: ignore[arg-type]
        else:
            means[name] = float(np.average([each.summary[name] for each in found], weights=weights))
    return means


def _single(values: Sequence[Any]) -> Any:
    """The value that all rounds share; the mean of numbers that differ; None where there is none."""
    known = [value for value in values if value is not None]
    return known[0] if len(set(known)) == 1 else _mean(known)


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
