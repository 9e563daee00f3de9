"""The study's figures: means over seeds, their ranges, and how they compare with full inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from recascade_relaygr.study.experiments import Experiment, Series


@dataclass(frozen=True)
class Figure:
    """One place of one series.

    Attributes:
        mean: over seeds.
        low: of the seeds.
        high: of the seeds.
        facts: of the first seed, such as the answers' paths; empty where nothing was borne.
    """

    mean: float
    low: float
    high: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """All figures of a question: ``rows[i][j]`` for series ``i`` and place ``j``."""

    experiment: Experiment
    rows: Sequence[Sequence[Figure]]

    @property
    def places(self) -> list[str]:
        """Names of the columns."""
        return [f"{value:g}" if isinstance(value, int | float) else str(value) for value in self.experiment.values]

    def ratio(self, row: int, place: int) -> float | None:
        """How many times as much as full inference in the same place; None where that is not measured, or bears
        nothing."""
        base = next((i for i, series in enumerate(self.experiment.series) if series.arm == "full"), None)
        if base is None or base == row or not self.rows[base][place].mean:
            return None
        return self.rows[row][place].mean / self.rows[base][place].mean


def make_table(experiment: Experiment, records: dict[tuple[str, Any], list[dict[str, Any]]]) -> Table:
    """Gather the cells of a question.

    Args:
        experiment: the question.
        records: label of the series and value → the record of each seed.
    """
    return Table(experiment, [_row(experiment, series, records) for series in experiment.series])


def poor_settings(tables: Sequence[Table], bound: float = 1.05) -> list[tuple[str, str, str, str]]:
    """Places in which the relay bears at most ``bound`` times as much as full inference, which bears something.

    Returns:
        Question, setting, series and ratio of each.
    """
    found = []
    for table in tables:
        if table.experiment.kind not in ("load", "history"):
            continue
        for row, series in enumerate(table.experiment.series):
            if series.arm != "relay":
                continue
            for place, name in enumerate(table.places):
                ratio = table.ratio(row, place)
                if ratio is not None and ratio <= bound:
                    where = f"{table.experiment.axis}: {name}" if name else "reference"
                    found.append((table.experiment.title, where, series.label, f"{ratio:.2f}"))
    return found


def _row(experiment: Experiment, series: Series, records: dict[tuple[str, Any], list[dict[str, Any]]]) -> list[Figure]:
    if experiment.kind == "timeline":
        seeds = records[series.label, ""]
        return [_figure([seed["values"][place] for seed in seeds], seeds[0]) for place in range(len(experiment.values))]
    row = []
    for value in experiment.values:
        seeds = records[series.label, value]
        row.append(_figure([seed["value"] for seed in seeds], seeds[0]))
    return row


def _figure(values: Sequence[float], first: dict[str, Any]) -> Figure:
    facts = {name: fact for name, fact in first.items() if name not in ("value", "values")}
    return Figure(fmean(values), min(values), max(values), facts)
