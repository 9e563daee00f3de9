"""Suites: a YAML file that says which methods run on which data, with what in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from recascade.bench.config import RunConfig, compose, concerns
from recascade.bench.registry import find_method
from recascade.contracts.named_files import with_absolute_files
from recascade.errors import ConfigurationError, did_you_mean
from recascade.settings import flatten

_SUITE_KEYS = ("title", "data", "seeds", "split", "lists", "trainer", "evaluation", "runs")
_RUN_KEYS = ("method", "variant", "seeds", "model", "trainer")


@dataclass(frozen=True)
class SuiteRun:
    """One line of a suite.

    Attributes:
        method: name in the registry.
        variant: the method's variant.
        seeds: how many; None takes the suite's number.
        overrides: dotted key → value, of this run alone.
    """

    method: str
    variant: str
    seeds: int | None
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Suite:
    """A suite as read.

    Attributes:
        title: one line for people.
        data: names or paths of data sets; every run is done on each.
        seeds: seeds per trained method.
        common: dotted key → value for every run.
        runs: the runs.
    """

    title: str
    data: tuple[str, ...]
    seeds: int
    common: Mapping[str, Any]
    runs: tuple[SuiteRun, ...]

    def configs(self, *, data: str | None, seeds: int | None, overrides: Mapping[str, Any]) -> list[RunConfig]:
        """The configurations of all runs.

        Args:
            data: a data set to use instead of the suite's.
            seeds: seeds per trained method instead of the suite's number and the runs' own.
            overrides: dotted key → value, over everything else.
        """
        return [
            config
            for name in ([data] if data else self.data)
            for run in self.runs
            for config in configs_of(
                run.method,
                name,
                run.variant,
                seeds or run.seeds or self.seeds,
                self._common_for(run) | dict(run.overrides) | dict(overrides),
            )
        ]

    def _common_for(self, run: SuiteRun) -> dict[str, Any]:
        """What holds for all; how to train means nothing to a method that is not trained."""
        method = find_method(run.method)
        return {key: value for key, value in self.common.items() if concerns(method, key)}


def configs_of(method_name: str, data: str, variant: str, seeds: int, overrides: Mapping[str, Any]) -> list[RunConfig]:
    """One configuration per seed 0, 1, …; a method without randomness has one seed, whatever is asked for."""
    method = find_method(method_name)
    folder = Path(data).expanduser()
    where = str(folder.resolve()) if folder.is_dir() else data
    configs = [
        compose(method, data=where, variant=variant, seed=seed, overrides=overrides)
        for seed in range(seeds if method.trained else 1)
    ]
    return [
        replace(config, model=with_absolute_files(config.model), evaluation=with_absolute_files(config.evaluation))
        for config in configs
    ]


def shipped_suites() -> list[str]:
    """Names of the suites that ship with the package."""
    folder = files("recascade.bench") / "suites"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_suite(name_or_path: str) -> Suite:
    """Read a suite: the path of a YAML file, or the name of one that ships.

    Raises:
        ConfigurationError: no such suite, or a key or value that a suite cannot have.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigurationError(f"There is no suite file {path}.")
        return parse_suite(path.read_text(encoding="utf-8"), str(path))
    if name_or_path not in shipped_suites():
        raise ConfigurationError(
            f"There is no suite {name_or_path!r}.{did_you_mean(name_or_path, shipped_suites())} "
            "Give the path of a .yaml file for your own."
        )
    return parse_suite((files("recascade.bench") / "suites" / f"{name_or_path}.yaml").read_text("utf-8"), name_or_path)


def parse_suite(text: str, origin: str) -> Suite:
    """A suite from YAML text; ``origin`` names it in messages."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"Suite {origin} is not YAML: {' '.join(str(error).split())}.") from error
    _check_keys(content, _SUITE_KEYS, f"Suite {origin}")
    runs = content.get("runs")
    if not isinstance(runs, list) or not runs:
        raise ConfigurationError(f"Suite {origin} has no runs; list them under the key 'runs', each with a 'method'.")
    data = content.get("data")
    if not data or not isinstance(data, str | list):
        raise ConfigurationError(
            f"Suite {origin} names no data; add the key 'data' with a name, a path or a list of them."
        )
    return Suite(
        title=str(content.get("title", "")),
        data=(data,) if isinstance(data, str) else tuple(map(str, data)),
        seeds=_seeds(content.get("seeds", 1), f"Suite {origin}"),
        common=_sections(content, ("split", "lists", "trainer", "evaluation"), f"Suite {origin}"),
        runs=tuple(_run(entry, f"Run {number} of suite {origin}") for number, entry in enumerate(runs, start=1)),
    )


def _run(entry: Any, where: str) -> SuiteRun:
    _check_keys(entry, _RUN_KEYS, where)
    if not isinstance(entry.get("method"), str):
        raise ConfigurationError(f"{where} names no method; add the key 'method'.")
    return SuiteRun(
        method=entry["method"],
        variant=str(entry.get("variant", "default")),
        seeds=_seeds(entry["seeds"], where) if "seeds" in entry else None,
        overrides=_sections(entry, ("model", "trainer"), where),
    )


def _sections(content: Mapping[str, Any], names: tuple[str, ...], where: str) -> dict[str, Any]:
    for name in names:
        if not isinstance(content.get(name, {}), Mapping):
            raise ConfigurationError(
                f"{where} has a {name!r} that is not a group of keys; write 'key: value' lines under it."
            )
    return flatten({name: content[name] for name in names if name in content})


def _seeds(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{where} has seeds: {value}; it must be a whole number of at least 1.")
    return value


def _check_keys(content: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{where} is not a group of keys; its keys are: {', '.join(known)}.")
    for key in content:
        if key not in known:
            raise ConfigurationError(f"{where} has an unknown key {key!r}.{did_you_mean(str(key), known)}")
