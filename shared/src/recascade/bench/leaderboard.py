"""The leaderboard as plain rows: finished runs grouped over their seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recascade.bench.store import Run
from recascade.errors import DataError

# The settings of an evaluation that change the value of a metric; others only say which metrics, and how fast.
_MEASUREMENT = ("exclude_seen", "candidates", "max_users", "seed")


@dataclass(frozen=True)
class LeaderboardRow:
    """One method, variant and set of changes, over its finished seeds.

    Attributes:
        method: name in the registry.
        variant: the method's variant.
        changes: what was changed against the variant, by dotted key.
        trained: False for methods that count.
        seeds: the finished seeds.
        means: test metric → mean over the seeds.
        deviations: test metric → standard deviation over the seeds (n - 1 in the denominator), None with a single seed.
        fit_cpu_seconds: mean CPU time of one fit.
        peak_memory_bytes: largest resident memory of any seed.
        latency_p50: median over the seeds of the median CPU milliseconds of a single request, None where not measured.
    """

    method: str
    variant: str
    changes: Mapping[str, Any]
    trained: bool
    seeds: tuple[int, ...]
    means: Mapping[str, float]
    deviations: Mapping[str, float | None]
    fit_cpu_seconds: float
    peak_memory_bytes: int
    latency_p50: float | None


def one_split(runs: Iterable[Run]) -> dict[str, Any]:
    """The split that all finished runs share, as ``result.json`` describes it.

    Raises:
        DataError: no run is finished, or the runs were measured on different splits or measured differently.
    """
    results = [run.result for run in runs if run.state == "finished" and run.result is not None]
    if not results:
        raise DataError("None of these runs is finished; run the same command again to finish them.")
    fingerprints = sorted({result["split"]["fingerprint"] for result in results})
    if len(fingerprints) > 1:
        raise DataError(
            f"These runs were measured on different splits ({', '.join(fingerprints)}), and their numbers must not "
            "stand in one table; choose runs of one split."
        )
    first = results[0]
    for result in results:
        for key in _MEASUREMENT:
            value = result["evaluation"].get(key)
            if value != first["evaluation"].get(key):
                raise DataError(
                    f"These runs were measured differently (evaluation.{key} is {first['evaluation'].get(key)} for "
                    f"{first['method']} and {value} for {result['method']}); evaluate them alike."
                )
    split: dict[str, Any] = first["split"]
    return split


def leaderboard(runs: Iterable[Run], order_by: str) -> list[LeaderboardRow]:
    """One row per method, variant and changes, best mean of the test metric ``order_by`` first.

    Raises:
        DataError: no run is finished, splits or evaluations are mixed, or nobody has the metric.
    """
    runs = list(runs)
    one_split(runs)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in runs:
        if run.state == "finished" and run.result is not None:
            result = run.result
            groups.setdefault((result["method"], result["variant"], str(result["overrides"])), []).append(result)
    rows = [_row(results) for results in groups.values()]
    if not any(order_by in row.means for row in rows):
        raise DataError(f"No run has the metric {order_by!r}; they have: {', '.join(sorted(rows[0].means))}.")
    return sorted(rows, key=lambda row: row.means.get(order_by, float("-inf")), reverse=True)


def shared_changes(rows: Sequence[LeaderboardRow]) -> dict[str, Any]:
    """The changes that all rows have, to be said once; how to train concerns only the rows that are trained."""
    shared: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row.changes):
        concerned = [row for row in rows if row.trained or not key.startswith("trainer.")]
        values = [row.changes.get(key) for row in concerned]
        if all(key in row.changes for row in concerned) and all(value == values[0] for value in values):
            shared[key] = values[0]
    return shared


def _row(results: list[dict[str, Any]]) -> LeaderboardRow:
    first = results[0]
    names = [name for name in first["metrics"]["test"] if all(name in result["metrics"]["test"] for result in results)]
    values = {name: [result["metrics"]["test"][name] for result in results] for name in names}
    known = {name: [value for value in column if value is not None] for name, column in values.items()}
    costs = [result["cost"] for result in results]
    latencies = [cost["latency_ms"]["p50"] for cost in costs if cost["latency_ms"]]
    return LeaderboardRow(
        method=first["method"],
        variant=first["variant"],
        changes=first["overrides"],
        trained=first["trained"],
        seeds=tuple(sorted(result["seed"] for result in results)),
        means={name: statistics.fmean(column) for name, column in known.items() if column},
        deviations={name: statistics.stdev(column) if len(column) > 1 else None for name, column in known.items()},
        fit_cpu_seconds=statistics.fmean(cost["fit_cpu_seconds"] for cost in costs),
        peak_memory_bytes=max(cost["peak_memory_bytes"] for cost in costs),
        latency_p50=statistics.median(latencies) if latencies else None,
    )
