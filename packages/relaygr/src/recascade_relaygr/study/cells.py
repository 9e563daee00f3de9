"""One cell of the study: a question, a series, a value and a seed; computed once and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from recascade.errors import DataError
from recascade.files import read_json, sha256_of, write_json
from recascade.settings import compose_sections
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.simulation.answers import Objective
from recascade_relaygr.simulation.arms import ARMS
from recascade_relaygr.simulation.config import WorkloadConfig
from recascade_relaygr.simulation.cost_tables import Durations, accelerator_like, read_durations
from recascade_relaygr.simulation.faults import FAULTS, leaks
from recascade_relaygr.simulation.search import Timing, Trial, longest_history, most_load, try_setting
from recascade_relaygr.simulation.setting import Change, Setting
from recascade_relaygr.study.config import REFERENCE, StudyConfig
from recascade_relaygr.study.experiments import LOSS_SECOND, Experiment, Series

# Changed whenever the same settings would give other figures, so that cells of before are not mixed in.
_CELLS = 4


@dataclass(frozen=True)
class Cell:
    """What is computed at once.

    Attributes:
        experiment: the question.
        series: the line.
        value: of the varied key; for a timeline, which is one simulation, nothing.
        seed: of requests and durations.
        chosen: the user's overrides, by dotted key.
    """

    experiment: Experiment
    series: Series
    value: Any
    seed: int
    chosen: Mapping[str, Any]

    @property
    def overrides(self) -> dict[str, Any]:
        """All overrides, those of the question last."""
        varied = {self.experiment.key: self.value} if self.experiment.key else {}
        return {**REFERENCE, **self.chosen, **self.experiment.overrides, **self.series.overrides, **varied}

    def path(self, folder: Path) -> Path:
        """Of its file; another one for other settings."""
        study, workload, relay = compose(self.overrides)
        costs = sha256_of(Path(study.costs)) if study.costs else ""
        told = [_CELLS, self.series.arm, self.series.lost, self.series.fault, self.experiment.kind, self.seed, costs]
        settings = {**asdict(study), "experiments": [], "processes": 1, "seeds": 1, "costs": ""}
        content = json.dumps([told, settings, asdict(workload), asdict(relay)], sort_keys=True)
        digest = blake2b(content.encode(), digest_size=8).hexdigest()
        return folder / self.experiment.name / f"{self.series.arm}-{self.seed}-{digest}.json"


def compose(overrides: Mapping[str, Any]) -> tuple[StudyConfig, WorkloadConfig, RelayConfig]:
    """The three sections of the study's settings.

    Raises:
        ConfigurationError: an unknown key, or a value that cannot work.
    """
    schema = {"study": StudyConfig, "workload": WorkloadConfig, "relay": RelayConfig}
    sections = compose_sections(schema, overrides)
    return sections["study"], sections["workload"], sections["relay"]


def cells(experiment: Experiment, seed: int, chosen: Mapping[str, Any]) -> Iterator[Cell]:
    """All cells of a question with one seed."""
    for series in experiment.series:
        for value in ("",) if experiment.kind == "timeline" else experiment.values:
            yield Cell(experiment, series, value, seed, chosen)


def compute(cell: Cell, folder: Path) -> Path:
    """Compute a cell unless its file is there.

    Returns:
        The path of its file: JSON with ``value`` (or ``values``, for a timeline) and what the table tells beside it.

    Raises:
        DataError: the file of measured durations cannot be read.
    """
    path = cell.path(folder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _measure(cell))
    return path


def read_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """What ``compute`` wrote.

    Raises:
        DataError: the cell has not been computed.
    """
    path = cell.path(folder)
    if not path.exists():
        raise DataError(
            f"{path} is missing; run the study again with the same settings, and it computes what is missing."
        )
    record: dict[str, Any] = read_json(path)
    return record


def durations(study: StudyConfig) -> Durations:
    """Of the device that the study simulates."""
    return read_durations(Path(study.costs)) if study.costs else accelerator_like()


def _measure(cell: Cell) -> dict[str, Any]:
    study, workload, relay = compose(cell.overrides)
    arm = ARMS[cell.series.arm]
    objective = Objective(relay.rank_budget, study.total_ms / 1e3, study.share, whole_history=not arm.cut)
    timing = Timing(study.warm_up_seconds, study.seconds)
    setting = Setting(
        arm,
        relay,
        durations(study),
        recent_tokens=workload.recent_tokens,
        candidates=workload.candidates,
        instances=study.instances,
        changes=[Change(LOSS_SECOND, "lose", f"instance-{number}") for number in range(cell.series.lost)],
    )
    setting, workload = FAULTS[cell.series.fault](setting, workload, timing.end)
    if cell.experiment.kind == "history":
        most = setting.durations.costs.full_table.lengths[-1]
        tokens = longest_history(setting, workload, objective, timing, cell.seed, step=study.step_tokens, most=most)
        return {"value": tokens}
    if cell.experiment.kind == "load":
        load = most_load(setting, workload, objective, timing, cell.seed, precision=study.precision)
        if not load:
            return {"value": 0.0}
        workload.rate = load
        trial = try_setting(setting, workload, objective, timing, cell.seed)
        return {"value": load, **_facts(trial)}
    trial = try_setting(setting, workload, objective, timing, cell.seed)
    if cell.experiment.kind == "timeline":
        return {"values": _by_second(trial, objective, cell.experiment.values), **_facts(trial)}
    assert trial.summary is not None
    return {"value": trial.summary.kept, **_facts(trial)}


def _facts(trial: Trial) -> dict[str, Any]:
    """What the table tells beside the value."""
    summary, cluster = trial.summary, trial.simulation.cluster
    assert summary is not None
    instances = list(cluster.instances.values())
    answers = [sum(each.statistics.paths.values()) for each in instances]
    seconds = cluster.clock.time() * cluster.config.executor.lanes * len(instances)
    return {
        "answered": summary.answered,
        "rank_p50": summary.rank_p50,
        "rank_p99": summary.rank_p99,
        "total_p99": summary.total_p99,
        "tokens": summary.tokens,
        "paths": summary.paths,
        "reasons": dict(trial.simulation.reasons),
        "peak_share": cluster.peak_bytes / max(each.cache.capacity_bytes for each in instances),
        "fill_share": sum(each.executor.fill_seconds for each in instances) / seconds,
        "rank_share": sum(each.executor.rank_seconds for each in instances) / seconds,
        "left_over": sum(leaks(cluster).values()),
        "busiest": max(answers) * len(answers) / max(sum(answers), 1),
    }


def _by_second(trial: Trial, objective: Objective, seconds: tuple[int, ...]) -> list[float]:
    """Share of the requests that came within each second and kept the limits."""
    simulation = trial.simulation
    arrived = np.floor(simulation.times).astype(int)
    numbers = np.asarray(simulation.answers.numbers)
    in_time = (np.asarray(simulation.answers.served) <= objective.rank_seconds) & (
        np.asarray(simulation.answers.total) <= objective.total_seconds
    )
    kept = np.bincount(arrived[numbers[in_time]], minlength=seconds[-1] + 1)
    offered = np.bincount(arrived, minlength=seconds[-1] + 1)
    return [float(kept[second] / max(offered[second], 1)) for second in seconds]
