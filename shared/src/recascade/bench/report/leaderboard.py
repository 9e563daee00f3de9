"""The rows of a leaderboard for one metric, every figure as it is printed and as it is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from recascade.bench.report.board import Board
from recascade.bench.report.comparison import ALPHA, Difference
from recascade.bench.report.entry import Entry, Value
from recascade.bench.report.formatting import (
    THIN_SPACE,
    grouped,
    metric_label,
    number,
    probability,
    signed,
    signed_percent,
    significant,
)

MARKS = {"better": "▲", "worse": "▼", "open": "○"}
VERDICTS = {
    "better": "better than the reference",
    "worse": "worse than the reference",
    "open": "cannot be told apart from the reference",
}


@dataclass(frozen=True)
class CostColumn:
    """A cost that stands beside quality.

    Attributes:
        name: key in ``Entry.cost``.
        heading: what is measured.
        unit: printed under the heading.
        divisor: stored value / divisor = printed value.
        text: how the printed value is written.
        lower_is_better: for choosing the direction of the first sort.
    """

    name: str
    heading: str
    unit: str
    divisor: float = 1.0
    text: Callable[[float | None], str] = significant
    lower_is_better: bool = True


COST_COLUMNS = (
    CostColumn("fit_cpu_seconds", "Fit", "CPU s"),
    CostColumn("gpu_seconds", "Fit", "GPU s"),
    CostColumn("peak_memory_bytes", "Peak memory", "MB", 1e6, grouped),
    CostColumn("targets_per_second", "Training", "targets/s", text=grouped, lower_is_better=False),
    CostColumn("latency_p50", "Latency p50", "ms"),
    CostColumn("latency_p99", "Latency p99", "ms"),
)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        rank: 1 for the best; fixed, whatever the table is sorted by.
        entry: the configuration.
        value: of the metric.
        difference: to the reference; None in the reference's own row.
        leads: whether this is the best.
        tied_with_leader: corrected p-value against the leader where it is not significant, else None.
        is_reference: whether differences are taken to this row.
        chosen_from: number of configurations that this one was chosen from by validation; 1 for no choice.
    """

    rank: int
    entry: Entry
    value: Value
    difference: Difference | None
    leads: bool
    tied_with_leader: float | None
    is_reference: bool
    chosen_from: int


def rows(board: Board, metric: str) -> list[Row]:
    """The shown entries, best first."""
    result = []
    against_leader = board.to_leader[metric]
    for place, entry in enumerate(board.ranked(metric), start=1):
        value = entry.value(metric)
        if value is None:
            continue
        p_value = against_leader.get(entry.key)
        result.append(
            Row(
                rank=place,
                entry=entry,
                value=value,
                difference=board.to_reference.get(entry.key, {}).get(metric),
                leads=place == 1,
                tied_with_leader=p_value if p_value is not None and p_value >= ALPHA else None,
                is_reference=entry is board.reference,
                chosen_from=board.chosen_from.get(entry.key, 1),
            )
        )
    return result


def cost_columns(board: Board) -> list[CostColumn]:
    """The cost columns for which any shown entry has a value; latency says which clock measured it, where all agree."""
    columns = [column for column in COST_COLUMNS if any(column.name in entry.cost for entry in board.shown)]
    clocks = {clock for entry in board.shown for clock in entry.latency_clocks}
    unit = "CPU ms" if clocks == {"cpu"} else "ms"
    return [replace(column, unit=unit) if column.name.startswith("latency") else column for column in columns]


def cost_text(entry: Entry, column: CostColumn) -> str:
    """A cost as printed."""
    value = entry.cost.get(column.name)
    return column.text(None if value is None else value.mean / column.divisor)


def value_text(value: Value | None) -> str:
    """Mean and, with several seeds, their deviation."""
    if value is None:
        return number(None)
    return number(value.mean) + (f" ± {number(value.deviation)}" if value.deviation is not None else "")


def difference_text(difference: Difference) -> str:
    """A difference with its interval and mark on one line."""
    return (
        f"{MARKS[difference.verdict]} {signed(difference.mean)} "
        f"[{signed(difference.low)}, {signed(difference.high)}], p {probability(difference.p_value)}"
    )


def headline(board: Board, metric: str) -> str:
    """The finding in one or two sentences."""
    leader, *others = rows(board, metric)
    seeds = f"{leader.value.seeds} seeds" if leader.value.seeds > 1 else "one run"
    text = f"{leader.entry.label} leads on {metric_label(metric)} with {value_text(leader.value)} ({seeds})"
    if leader.difference is not None:
        text += (
            f", {signed(leader.difference.mean)} or {signed_percent(leader.difference.relative)} against "
            f"{board.reference.label} (95{THIN_SPACE}% interval {signed(leader.difference.low)} to "
            f"{signed(leader.difference.high)})"
        )
    elif others:
        text += "; nothing beats the reference"
    text += ". "
    tied = [row.entry.label for row in others if row.tied_with_leader is not None]
    if tied:
        text += f"{listed(tied)} cannot be told apart from it."
    elif others:
        text += "All others are significantly behind it."
    return text.strip()


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    *front, last = names
    return f"{', '.join(front)} and {last}" if front else last
