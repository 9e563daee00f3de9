"""The report as Markdown, for a pull request or a paper's appendix, and as CSV, for further work."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from recascade.bench.report import breakdown, leaderboard
from recascade.bench.report.ablation import Ablation, ablations
from recascade.bench.report.board import Board
from recascade.bench.report.comparison import Difference
from recascade.bench.report.formatting import metric_label, number, probability, signed
from recascade.bench.report.joint_effects import COSTS, JointEffects, joint_effects
from recascade.bench.report.report import Report
from recascade.bench.report.tie_rules import TieRuleTable, tie_rule_tables

MARKS = " ▲ better, ▼ worse at 5 % after Holm, ○ cannot be told apart."
CSV_IDENTITY = (
    "data",
    "synthetic",
    "split",
    "protocol",
    "ties",
    "filter",
    "cold_items",
    "catalogue",
    "seen_items",
    "ranking",
    "method",
    "variant",
    "overrides",
    "seeds",
    "shown",
)
CSV_FIGURES = (
    "metric",
    "test_mean",
    "test_sd",
    "validation_mean",
    "reference",
    "difference",
    "interval_low",
    "interval_high",
    "p_holm",
)
CSV_COSTS = (
    "fit_cpu_seconds",
    "fit_seconds",
    "gpu_seconds",
    "evaluation_cpu_seconds",
    "peak_memory_bytes",
    "targets_per_second",
    "latency_p50",
    "latency_p99",
    "parameters",
)


def markdown(report: Report, title: str) -> str:
    """Every leaderboard by its first metric, with groups, ablations, rules and what has failed."""
    parts = [f"# {title}"]
    for board in report.boards:
        parts += _board(board)
    for table in tie_rule_tables(report):
        parts += _tie_rules(table)
    if report.failed:
        parts.append("## Failed runs")
        parts.append(
            "\n".join(
                f"- {failure.name}, seed {', '.join(map(str, failure.seeds))}: {_cell(failure.error)}"
                for failure in report.failures
            )
        )
    return "\n\n".join(parts) + "\n"


def csv_table(report: Report) -> str:
    """One row per leaderboard, configuration and metric, every configuration included, numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_IDENTITY, *CSV_FIGURES, *CSV_COSTS])
    for board in report.boards:
        for entry in board.entries:
            rules = board.rules
            identity = [board.data["name"], board.data["synthetic"], rules.fingerprint, rules.protocol, rules.ties]
            identity += [rules.filters, rules.cold_items, rules.catalogue, rules.seen_items, rules.ranking]
            seeds = " ".join(map(str, entry.seeds))
            identity += [entry.method, entry.variant, entry.override_text, seeds, entry in board.shown]
            costs = [entry.cost[name].mean if name in entry.cost else None for name in CSV_COSTS]
            for metric in board.test_metrics():
                value, validation = entry.value(metric), entry.value(metric, "validation")
                if value is None:
                    continue
                figures = [metric, value.mean, value.deviation, validation.mean if validation else None]
                difference = board.to_reference.get(entry.key, {}).get(metric)
                figures += (
                    [board.reference.label, difference.mean, difference.low, difference.high, difference.p_value]
                    if difference
                    else [None] * 5
                )
                writer.writerow([*identity, *figures, *costs])
    return text.getvalue()


def _board(board: Board) -> list[str]:
    metric = board.metric
    rows = leaderboard.rows(board, metric)
    costs = leaderboard.cost_columns(board)
    heads = ["#", "Method", metric_label(metric), f"Difference to {board.reference.name}", "95 % interval", "p (Holm)"]
    heads += [f"{column.heading}, {column.unit}" for column in costs]
    lines = []
    for row in rows:
        difference = row.difference
        compared = ["reference", "", ""]
        if difference is not None:
            mark = leaderboard.MARKS[difference.verdict]
            interval = f"{signed(difference.low)} … {signed(difference.high)}"
            compared = [f"{mark} {signed(difference.mean)}", interval, probability(difference.p_value)]
        value = leaderboard.value_text(row.value) + (" (simulated)" if metric in row.entry.simulated else "")
        cells = [str(row.rank), row.entry.label, value, *compared]
        for column in costs:
            simulated = " (simulated)" if column.name in row.entry.simulated else ""
            cells.append(leaderboard.cost_text(row.entry, column) + simulated)
        lines.append(cells)
    synthetic = " (synthetic data)" if board.data["synthetic"] else ""
    parts = [
        f"## {board.data['name']}, {board.rules.title}{synthetic}",
        leaderboard.headline(board, metric),
        _table(heads, lines, left=2),
        _note(board, MARKS),
        *_groups(board, rows),
    ]
    for ablation in ablations(board):
        parts += _ablation(ablation, board)
        joint = joint_effects(board, ablation)
        parts += _joint(joint, board.metric) if joint else []
    return parts


def _groups(board: Board, rows: Sequence[leaderboard.Row]) -> list[str]:
    columns = breakdown.groups(board, board.metric, [row.entry for row in rows])
    if len(columns) < 2:
        return []
    heads = ["Method", *(f"{column.grouping}: {column.name}" if column.grouping else column.name for column in columns)]
    lines = []
    for position, row in enumerate(rows):
        values = [column.values[position] for column in columns]
        lines.append([row.entry.label, *(number(value.mean if value else None) for value in values)])
    return [f"### {metric_label(board.metric)} within groups", _table(heads, lines), _note(board)]


def _ablation(ablation: Ablation, board: Board) -> list[str]:
    metric = board.metric
    heads = ["Change", "instead of", metric_label(metric), "Difference to base", "95 % interval", "p (Holm)"]
    lines = [["base", "", leaderboard.value_text(ablation.base.value(metric)), "", "", ""]]
    for effect in ablation.effects:
        difference = effect.differences[metric]
        lines.append(
            [
                f"{effect.axis}={effect.value}",
                effect.base_value,
                leaderboard.value_text(effect.entry.value(metric)),
                f"{leaderboard.MARKS[difference.verdict]} {signed(difference.mean)}",
                f"{signed(difference.low)} … {signed(difference.high)}",
                probability(difference.p_value),
            ]
        )
    return [f"### Ablation of {ablation.name}", _table(heads, lines), _note(board, MARKS)]


def _joint(joint: JointEffects, metric: str) -> list[str]:
    def change(difference: Difference) -> list[str]:
        return [
            f"{leaderboard.MARKS[difference.verdict]} {signed(difference.mean)}",
            f"{signed(difference.low)} … {signed(difference.high)}",
            probability(difference.p_value),
        ]

    effects = [
        [
            f"{effect.axis}={effect.value}",
            effect.base_value,
            str(effect.settings),
            *change(effect.differences[metric]),
            f"{signed(effect.least[metric])} … {signed(effect.most[metric])}",
        ]
        for effect in joint.means
    ]
    interactions = [
        [
            f"{found.axis}={found.value}",
            f"{found.other_axis}={found.other_value}",
            signed(found.alone[metric]),
            signed(found.together[metric]),
            *change(found.changes[metric]),
        ]
        for found in joint.interactions
    ]
    front = [
        [
            entry.label,
            leaderboard.value_text(entry.value(metric)),
            *(number(entry.cost[name].mean) for name in COSTS),
        ]
        for entry in joint.fronts[metric]
    ]
    compared = ["95 % interval", "p (Holm)"]
    return [
        "#### Each choice, averaged over all settings of the others",
        _table(["Change", "instead of", "Settings", "Mean difference", *compared, "Least … most"], effects, left=2),
        "#### Where the gain of a choice goes when another one is made too",
        _table(["Choice", "with", "Gain alone", "Gain together", "Change", *compared], interactions, left=2),
        "#### Pareto front of quality, fit and latency",
        _table(["Configuration", metric_label(metric), "Fit, CPU s", "Latency p50, ms"], front),
    ]


def _tie_rules(table: TieRuleTable) -> list[str]:
    metric = table.boards[0].metric
    heads = ["Configuration", *(f"ties {board.rules.ties}, split {board.rules.fingerprint}" for board in table.boards)]
    lines = [[label, *map(leaderboard.value_text, values)] for label, values in table.rows(metric)]
    note = (
        f"*{metric_label(metric)} · {table.boards[0].rules.sentence_without_split}. Each column is a split of its own.*"
    )
    return [f"## {table.data} under {len(table.boards)} tie rules", _table(heads, lines), note]


def _note(board: Board, marks: str = "") -> str:
    return f"*{board.rules.sentence}. Mean ± standard deviation over seeds.{marks}*"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns stand left, the others right."""
    marks = ["---" if column < left else "---:" for column in range(len(heads))]
    lines = [map(_cell, heads), marks, *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
