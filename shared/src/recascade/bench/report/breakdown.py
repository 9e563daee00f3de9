"""Where a method is good: groups of users and targets, repeated and new items, and what whole lists look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recascade.bench.report.board import Board
from recascade.bench.report.entry import Entry, Value
from recascade.bench.report.formatting import grouped, higher_is_better, metric_cutoff, metric_family, metric_label

GROUPINGS = {
    "activity": "User activity",
    "popularity": "Popularity of the target",
    "tied": "Time of the target",
    "slice": "Items of the target",
}
SLICES = {"repeat": "had before", "explore": "new to the user"}
UNITS = {"coverage": "share of the catalogue", "gini": "0 is even", "novelty": "bits"}


@dataclass(frozen=True)
class Column:
    """One column of a breakdown.

    Attributes:
        grouping: heading over neighbouring columns.
        name: heading of the column.
        note: size of the group or another remark, may be empty.
        values: one per row, None where a run lacks it.
        shares: one per row, 0 for the worst and 1 for the best value of the column.
        best: index of the best row; -1 where nothing was measured.
    """

    grouping: str
    name: str
    note: str
    values: Sequence[Value | None]
    shares: Sequence[float]
    best: int


def groups(board: Board, metric: str, entries: Sequence[Entry]) -> list[Column]:
    """A metric for all targets, within each group, and restricted to repeated and to new items; one value per entry."""
    columns = [_column("", "all", "", [entry.value(metric) for entry in entries])]
    recorded: Mapping[str, Mapping[str, Mapping[str, float]]] = next(
        (run.result["groups"] for entry in entries for run in entry.runs if run.result.get("groups")), {}
    )
    for kind, members in recorded.items():
        for name, figures in members.items():
            note = f"{grouped(figures['users'])} users" if "users" in figures else ""
            values = [entry.group_value(kind, name, metric) for entry in entries]
            columns.append(_column(GROUPINGS.get(kind, kind), name, note, values))
    for name, words in SLICES.items():
        values = [entry.value(f"{metric}/{name}") for entry in entries]
        columns.append(_column(GROUPINGS["slice"], name, words, values))
    return [column for column in columns if column.best >= 0]


def whole_lists(board: Board, metric: str, entries: Sequence[Entry]) -> list[Column]:
    """Coverage, concentration, novelty and the like, at the cutoff of the metric; one value per entry."""
    names = [
        name
        for name in board.test_metrics()
        if name not in board.metrics and "/" not in name and metric_cutoff(name) in (None, metric_cutoff(metric))
    ]
    columns = []
    for name in names:
        values = [entry.value(name) for entry in entries]
        unit = UNITS.get(metric_family(name), "")
        columns.append(_column("", metric_label(name), unit, values, higher=higher_is_better(name)))
    return [column for column in columns if column.best >= 0]


def _column(grouping: str, name: str, note: str, values: Sequence[Value | None], *, higher: bool = True) -> Column:
    sign = 1.0 if higher else -1.0
    goodness = {index: sign * value.mean for index, value in enumerate(values) if value is not None}
    if not goodness:
        return Column(grouping, name, note, values, [0.0] * len(values), -1)
    low, high = min(goodness.values()), max(goodness.values())
    span = high - low or 1.0
    shares = [(goodness.get(index, low) - low) / span for index in range(len(values))]
    return Column(grouping, name, note, values, shares, max(goodness, key=goodness.__getitem__))
