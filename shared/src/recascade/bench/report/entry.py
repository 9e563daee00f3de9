"""One configuration of a method, with its runs over seeds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import yaml

from recascade.bench.config import RERANKING_SPLIT
from recascade.bench.report.record import RunRecord
from recascade.data.reranking_config import ListsConfig
from recascade.data.split_config import SplitConfig
from recascade.errors import DataError

EntryKey = tuple[str, str, str]


@dataclass(frozen=True)
class Value:
    """Mean over seeds, and the seeds' sample standard deviation (None with one seed)."""

    mean: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Entry:
    """A method, a variant and overrides, with one run per seed.

    Attributes:
        method: name in the registry.
        variant: the method's variant.
        overrides: everything that was changed against the variant, by dotted key.
        changes: those of the overrides that not every run of the leaderboard has.
        distinctions: those of them that not every entry of the same method and variant has.
        runs: one per seed, ascending.
    """

    method: str
    variant: str
    overrides: Mapping[str, Any]
    changes: Mapping[str, Any]
    distinctions: Mapping[str, Any]
    runs: tuple[RunRecord, ...]

    @property
    def key(self) -> EntryKey:
        """What tells configurations apart."""
        return entry_key(self.runs[0])

    @property
    def name(self) -> str:
        """Method and, unless it is the default, variant."""
        return entry_name(self.runs[0])

    @property
    def change_text(self) -> str:
        """The changes as they are typed."""
        return typed_overrides(self.changes)

    @property
    def override_text(self) -> str:
        """All overrides as they are typed."""
        return typed_overrides(self.overrides)

    @property
    def label(self) -> str:
        """Name and distinctions, unique within a leaderboard."""
        return f"{self.name} {typed_overrides(self.distinctions)}".rstrip()

    @property
    def trained(self) -> bool:
        """False for counting methods."""
        return bool(self.runs[0].result["trained"])

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [run.result["seed"] for run in self.runs]

    def value(self, metric: str, part: str = "test") -> Value | None:
        """Mean and deviation over seeds of a metric; None where no run has it."""
        return over_seeds(run.result["metrics"].get(part, {}).get(metric) for run in self.runs)

    def group_value(self, kind: str, group: str, metric: str) -> Value | None:
        """A metric within a group of users or targets, as ``("activity", "low", "ndcg@10")``."""
        return over_seeds(run.result.get("groups", {}).get(kind, {}).get(group, {}).get(metric) for run in self.runs)

    @cached_property
    def cost(self) -> dict[str, Value]:
        """Each cost that was measured; latency in milliseconds as ``latency_p50`` and ``latency_p99``."""
        costs = [_flat_cost(run.result["cost"]) for run in self.runs]
        values = {
            name: over_seeds(cost.get(name) for cost in costs) for name in dict.fromkeys(n for c in costs for n in c)
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def latency_clocks(self) -> set[str]:
        """The clocks that measured latency: ``cpu`` for processor time."""
        latencies = [run.result["cost"].get("latency_ms") for run in self.runs]
        return {str(latency.get("clock")) for latency in latencies if latency}

    @cached_property
    def simulated(self) -> frozenset[str]:
        """Names of the metrics and costs that a run declares simulated instead of measured."""
        return frozenset(name for run in self.runs for name in run.result.get("simulated", ()))

    @property
    def differing_versions(self) -> list[str]:
        """Packages whose version is not the same in all runs."""
        versions = [run.result["versions"] for run in self.runs]
        return [name for name in versions[0] if len({version.get(name) for version in versions}) > 1]

    @property
    def command(self) -> str:
        """The command that repeats these runs."""
        config = self.runs[0].config
        words = ["recascade", "run", self.method, "--data", str(config["data"])]
        if self.variant != "default":
            words += ["--variant", self.variant]
        if len(self.runs) > 1:
            words += ["--seeds", str(len(self.runs))]
        defaults = asdict(SplitConfig())
        if "lists" in config:
            defaults |= {key.removeprefix("split."): value for key, value in RERANKING_SPLIT.items()}
        split = {f"split.{key}": value for key, value in config["split"].items() if value != defaults.get(key)}
        usual = asdict(ListsConfig())
        lists = {f"lists.{key}": value for key, value in config.get("lists", {}).items() if value != usual.get(key)}
        words += [f"{key}={typed(value)}" for key, value in {**split, **lists, **self.overrides}.items()]
        return shlex.join(words)


def entry_key(run: RunRecord) -> EntryKey:
    """Method, variant and overrides of a run."""
    overrides = json.dumps(run.result["overrides"], sort_keys=True)
    return (run.result["method"], run.result["variant"], overrides)


def entry_name(run: RunRecord) -> str:
    """Method and, unless it is the default, variant."""
    method, variant = run.result["method"], run.result["variant"]
    return method if variant == "default" else f"{method} · {variant}"


def gather(runs: Iterable[RunRecord]) -> list[Entry]:
    """Put the seeds of each configuration together; ordered by method, variant and changes.

    Raises:
        DataError: a seed of a configuration is there twice.
    """
    grouped: dict[EntryKey, dict[int, RunRecord]] = {}
    for run in runs:
        seeds = grouped.setdefault(entry_key(run), {})
        seed = run.result["seed"]
        if seed in seeds:
            raise DataError(
                f"{seeds[seed].directory} and {run.directory} are the same configuration with the same seed; "
                "move one of them out of the folder."
            )
        seeds[seed] = run
    first = [next(iter(seeds.values())) for seeds in grouped.values()]
    shared = shared_overrides(first)
    named: dict[str, list[Mapping[str, Any]]] = {}
    for run in first:
        named.setdefault(entry_name(run), []).append(run.result["overrides"])
    entries = []
    for (method, variant, text), seeds in grouped.items():
        overrides = json.loads(text)
        runs = tuple(seeds[seed] for seed in sorted(seeds))
        changes = {key: value for key, value in overrides.items() if key not in shared}
        others = named[entry_name(runs[0])]
        distinctions = {key: value for key, value in changes.items() if not _in_all(key, value, others)}
        entries.append(Entry(method, variant, overrides, changes, distinctions, runs))
    return sorted(entries, key=_place)


def _in_all(key: str, value: Any, configurations: Iterable[Mapping[str, Any]]) -> bool:
    return all(key in overrides and overrides[key] == value for overrides in configurations)


def _place(entry: Entry) -> tuple[Any, ...]:
    """Sorts by method, variant, number of changes, and changes with numbers ascending."""
    numbered = {key: isinstance(value, int | float) for key, value in entry.changes.items()}
    changes = [
        (key, (0, value, "") if numbered[key] else (1, 0, typed(value))) for key, value in sorted(entry.changes.items())
    ]
    return (entry.method, entry.variant, len(changes), changes)


def shared_overrides(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """The overrides that all runs have, to be said once; how to train concerns only trained methods."""
    shared = {}
    for key in dict.fromkeys(key for run in runs for key in run.result["overrides"]):
        concerned = [run.result for run in runs if run.result["trained"] or not key.startswith("trainer.")]
        values = [result["overrides"].get(key) for result in concerned]
        everywhere = bool(concerned) and all(key in result["overrides"] for result in concerned)
        if len(runs) > 1 and everywhere and all(value == values[0] for value in values):
            shared[key] = values[0]
    return shared


def typed_overrides(overrides: Mapping[str, Any]) -> str:
    """Overrides as they are typed on the command line."""
    return " ".join(f"{key}={typed(value)}" for key, value in overrides.items())


def over_seeds(values: Iterable[float | None]) -> Value | None:
    """Mean and sample standard deviation of the values that are there."""
    present = [float(value) for value in values if value is not None and value == value]
    if not present:
        return None
    return Value(fmean(present), stdev(present) if len(present) > 1 else None, len(present))


def typed(value: Any) -> str:
    """A configuration value as one types it on the command line, which is YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20)
    return text.removesuffix("\n").removesuffix("\n...")


def _flat_cost(cost: Mapping[str, Any]) -> dict[str, float | None]:
    flat: dict[str, float | None] = {name: value for name, value in cost.items() if not isinstance(value, Mapping)}
    latency = cost.get("latency_ms") or {}
    return flat | {f"latency_{name}": latency.get(name) for name in ("p50", "p99")}
