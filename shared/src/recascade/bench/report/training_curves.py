"""Training curves as small charts: one card per trained configuration, all on the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from recascade.bench.report.board import Board
from recascade.bench.report.charts import Line, curves, shared_background, use_background
from recascade.bench.report.entry import Entry
from recascade.bench.report.formatting import metric_label
from recascade.bench.report.record import RunRecord
from recascade.bench.report.scales import Scale, linear_scale

MOST_POINTS = 120


@dataclass(frozen=True)
class Card:
    """The curves of one configuration.

    Attributes:
        entry: the configuration.
        note: epochs trained and kept.
        charts: validation metric, then training loss, as far as they were logged.
    """

    entry: Entry
    note: str
    charts: Sequence[Markup]


def cards(board: Board, name: str) -> tuple[Markup, list[Card]]:
    """Hidden shared curves, to be put on the page once, and a card for each shown entry that logged something.

    Args:
        board: the leaderboard.
        name: makes the identifiers of this board's curves unique on the page.
    """
    validation = {entry.key: _lines(entry, "validation") for entry in board.shown}
    loss = {entry.key: _lines(entry, "loss") for entry in board.shown}
    all_lines = [line for lines in validation.values() for _, line in lines]
    drawn = [entry for entry in board.shown if validation[entry.key] or loss[entry.key]]
    if not drawn:
        return Markup(), []
    every = all_lines + [line for lines in loss.values() for _, line in lines]
    x_scale = Scale(1.0, max(2.0, *(max(line.x) for line in every)))
    shared, background = Markup(), Markup()
    y_scale = linear_scale([0.0, 1.0])
    if all_lines:
        y_scale = linear_scale([y for line in all_lines for y in line.y])
        shared = shared_background(f"curves-{name}", all_lines, x_scale, y_scale)
        background = use_background(f"curves-{name}")
    result = []
    for entry in drawn:
        charts = []
        if found := validation[entry.key]:
            label = f"{metric_label(found[0][0])}, validation"
            lines = [line for _, line in found]
            charts.append(curves(lines, x_scale, y_scale, label=label, x_label="epoch", background=background))
        if found := loss[entry.key]:
            lines = [line for _, line in found]
            own_scale = linear_scale([y for line in lines for y in line.y])
            charts.append(curves(lines, x_scale, own_scale, label="Training loss, own scale", x_label="epoch"))
        result.append(Card(entry, _note(entry), charts))
    return shared, result


def _lines(entry: Entry, kind: str) -> list[tuple[str, Line]]:
    """Per seed the name of the curve and its points; at most one curve of a kind per run."""
    found = []
    for run in entry.runs:
        table = run.curves().filter(pl.col("value").is_finite())
        name = _curve_name(table["name"].unique(maintain_order=True).to_list(), kind, _monitor(run))
        if name is None:
            continue
        points = table.filter(pl.col("name") == name).group_by("epoch").agg(pl.col("value").mean()).sort("epoch")
        points = points.gather_every(-(-len(points) // MOST_POINTS))
        x, y = points["epoch"].to_list(), points["value"].to_list()
        kept = None
        best = run.result["cost"].get("best_epoch")
        if kind == "validation" and best in x:
            kept = (best, y[x.index(best)])
        found.append((name.rpartition("/")[2], Line(x, y, kept)))
    return found


def _monitor(run: RunRecord) -> str:
    trainer = run.config.get("trainer") or {}
    return str(trainer.get("monitor", ""))


def _curve_name(names: Sequence[str], kind: str, monitor: str) -> str | None:
    """The logged name of the monitored validation metric, or of the training loss."""
    if kind == "loss":
        return next((name for name in names if "loss" in name and "validation" not in name), None)
    return next((name for name in names if monitor and name.endswith(monitor)), None)


def _note(entry: Entry) -> str:
    costs = [run.result["cost"] for run in entry.runs if run.result["cost"].get("best_epoch")]
    if not costs:
        return ""
    kept = ", ".join(str(cost["best_epoch"]) for cost in costs)
    epochs = sorted({cost["epochs"] for cost in costs})
    return f"kept epoch {kept} of {epochs[0]}" + (f" to {epochs[-1]}" if len(epochs) > 1 else "")
