"""Running sweeps on a small log, for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recascade.bench.runner import Event, LocalRunner
from recascade.bench.suite import configs_of
from recascade.bench.sweep import Sweep, compute, lay_out

RunSweep = Callable[..., tuple[Sweep, list[Event]]]


def run_configs(
    log: Path, output: Path, *settings: dict[str, Any], method: str, seeds: int = 1, processes: int = 2
) -> tuple[Sweep, list[Event]]:
    """One configuration of the method per mapping of overrides."""
    configs = [config for overrides in settings for config in configs_of(method, str(log), "default", seeds, overrides)]
    sweep = lay_out(configs, output, lambda _: None)
    events: list[Event] = []
    compute(sweep, LocalRunner(processes, threads=1), events.append, lambda: None)
    return sweep, events


@pytest.fixture
def run_sweep(home: Path, log: Path, acme: None, tmp_path: Path) -> RunSweep:
    """``run_sweep(overrides, …, seeds=1, processes=2, output="runs", method="acme")``, in a fresh folder."""

    def run(*settings: dict[str, Any], output: str = "runs", method: str = "acme", **how: int) -> Any:
        return run_configs(log, tmp_path / output, *settings, method=method, **how)

    return run


@pytest.fixture(scope="module")
def floors(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Finished runs: ``popularity`` and ``co-visit`` alike, and co-visit ``masked`` and on ``another split``."""
    folder = tmp_path_factory.mktemp("floors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECASCADE_HOME", str(folder / "home"))
        popularity, _ = run_configs(log, folder / "runs", {}, method="popularity")
        settings = [{}, {"evaluation.exclude_seen": True}, {"split.protocol": "ratio"}]
        co_visit, _ = run_configs(log, folder / "runs", *settings, method="co-visit")
    names = ["popularity", "co-visit", "masked", "another split"]
    yield dict(zip(names, [run.directory for run in (*popularity.runs, *co_visit.runs)], strict=True))
