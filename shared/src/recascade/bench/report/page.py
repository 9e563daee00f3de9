"""The report as one HTML page that needs neither the network nor JavaScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recascade import __version__
from recascade.bench.report import breakdown, formatting, leaderboard
from recascade.bench.report.ablation import Ablation, ablations
from recascade.bench.report.board import Board
from recascade.bench.report.charts import (
    Point,
    interval,
    interval_axis,
    interval_scale,
    interval_zero,
    scatter,
)
from recascade.bench.report.comparison import INTERVAL_WORDS, TEST_WORDS
from recascade.bench.report.heat_map import heat_maps
from recascade.bench.report.joint_effects import JointEffects, joint_effects
from recascade.bench.report.report import Report
from recascade.bench.report.scales import Scale
from recascade.bench.report.tie_rules import tie_rule_tables
from recascade.bench.report.training_curves import Card, cards

PACKAGE = "recascade.bench.report"


class Span(NamedTuple):
    """A heading over several columns."""

    name: str
    columns: int


@dataclass(frozen=True)
class Pane:
    """What of a board depends on the metric that the reader chose."""

    metric: str
    headline: str
    rows: Sequence[leaderboard.Row]
    scale: Scale
    scatters: Sequence[Markup]
    groups: Sequence[breakdown.Column]
    whole_lists: Sequence[breakdown.Column]


@dataclass(frozen=True)
class BoardView:
    """A board with everything drawn; ``name`` is unique on the page."""

    name: str
    board: Board
    panes: Sequence[Pane]
    cost_columns: Sequence[leaderboard.CostColumn]
    shared_curves: Markup
    cards: Sequence[Card]
    ablations: Sequence[Ablation]
    joint: Mapping[str, JointEffects | None]


def render_page(report: Report, *, title: str | None = None, generated: datetime | None = None) -> str:
    """The page as text.

    Args:
        report: what ``collect`` returned.
        title: heading; made from the names of the data by default.
        generated: moment printed at the foot; now by default.
    """
    environment = Environment(
        loader=PackageLoader(PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "groupby_neighbours": neighbours,
        "significant": formatting.significant,
        "cost": leaderboard.cost_text,
        "metric_label": formatting.metric_label,
        "number": formatting.number,
        "grouped": formatting.grouped,
        "percent": formatting.percent,
        "probability": formatting.probability,
        "signed": formatting.signed,
        "signed_percent": formatting.signed_percent,
        "value_text": leaderboard.value_text,
    }
    environment.globals |= {
        "interval": interval,
        "interval_axis": interval_axis,
        "interval_zero": interval_zero,
        "effect_scale": effect_scale,
        "marks": leaderboard.MARKS,
        "verdicts": leaderboard.VERDICTS,
        "heat": heat,
        "heat_maps": heat_maps,
        "fit_column": leaderboard.COST_COLUMNS[0],
        "interval_words": INTERVAL_WORDS,
        "test_words": TEST_WORDS,
        "slug": slug,
    }
    page: str = environment.get_template("page.html").render(
        title=title or default_title(report),
        report=report,
        views=[view(board, f"board-{number}") for number, board in enumerate(report.boards, start=1)],
        families=metric_families(report),
        first_metric=report.boards[0].metric,
        tie_tables=tie_rule_tables(report),
        version=__version__,
        generated=(generated or datetime.now(UTC)).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        style=Markup(_asset("style.css")),
        script=Markup(_asset("script.js")),
    )
    return page


def default_title(report: Report) -> str:
    """Names the data."""
    return "Leaderboard on " + leaderboard.listed(list(dict.fromkeys(board.data["name"] for board in report.boards)))


def view(board: Board, name: str) -> BoardView:
    """Draw a board."""
    shared, curve_cards = cards(board, name)
    found = ablations(board)
    return BoardView(
        name=name,
        board=board,
        panes=[pane(board, metric) for metric in board.metrics],
        cost_columns=leaderboard.cost_columns(board),
        shared_curves=shared,
        cards=curve_cards,
        ablations=found,
        joint={ablation.name: joint_effects(board, ablation) for ablation in found},
    )


def pane(board: Board, metric: str) -> Pane:
    """Draw what depends on the metric."""
    rows = leaderboard.rows(board, metric)
    entries = [row.entry for row in rows]
    ends = [end for row in rows if row.difference for end in (row.difference.low, row.difference.high)]
    return Pane(
        metric=metric,
        headline=leaderboard.headline(board, metric),
        rows=rows,
        scale=interval_scale(ends),
        scatters=scatters(rows, metric),
        groups=breakdown.groups(board, metric, entries),
        whole_lists=breakdown.whole_lists(board, metric, entries),
    )


def scatters(rows: Sequence[leaderboard.Row], metric: str) -> list[Markup]:
    """Quality against the cost of fitting and of answering a request, where at least two entries have both."""
    label = formatting.metric_label(metric)
    charts = []
    for column, axis in (
        ("fit_cpu_seconds", "Fit, CPU seconds"),
        ("latency_p50", "Latency of one request, p50 milliseconds"),
    ):
        points = [
            Point(
                name=row.entry.name,
                cost=row.entry.cost[column].mean,
                quality=row.value.mean,
                deviation=row.value.deviation,
                trained=row.entry.trained,
                description=(
                    f"{row.entry.label}: {label} {leaderboard.value_text(row.value)}, "
                    f"{axis} {formatting.significant(row.entry.cost[column].mean)}"
                ),
            )
            for row in rows
            if column in row.entry.cost
        ]
        if len(points) > 1:
            charts.append(scatter(points, axis, label))
    return charts


def metric_families(report: Report) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Family → (metric, what stands on its button), over all boards."""
    names = {metric for board in report.boards for metric in board.metrics}
    families: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(names, key=formatting.metric_order):
        cutoff = formatting.metric_cutoff(name)
        family = formatting.metric_label(formatting.metric_family(name))
        families.setdefault(family, []).append((name, str(cutoff) if cutoff else "all"))
    return families


def effect_scale(ablation: Ablation, metric: str) -> Scale:
    """One axis for all effects of an ablation."""
    differences = [effect.differences[metric] for effect in ablation.effects]
    return interval_scale([end for difference in differences for end in (difference.low, difference.high)])


def neighbours(columns: Sequence[breakdown.Column]) -> list[Span]:
    """How many neighbouring columns stand under each grouping."""
    return [Span(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.grouping)]


def heat(share: float) -> str:
    """The tint of a cell, 0 for the worst and 1 for the best."""
    return f"--heat:{round(100 * share)}"


def slug(name: str) -> str:
    """A metric's name as part of an identifier."""
    return "".join(character if character.isalnum() else "-" for character in name)


def _asset(name: str) -> str:
    return files(PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")
