"""The study as one HTML page that needs nothing else, and as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from recascade_relaygr.relay.requests import PATHS
from recascade_relaygr.simulation.cost_tables import Durations
from recascade_relaygr.study.cells import compose, durations
from recascade_relaygr.study.charts import Line, chart
from recascade_relaygr.study.config import REFERENCE
from recascade_relaygr.study.tables import Figure, Table, poor_settings

_UNITS = {
    "load": "requests per second and instance",
    "history": "events",
    "kept": "share of requests that keep the limits",
    "timeline": "share of requests that keep the limits",
}
_FACTS = (
    "setting",
    "answered",
    "P50 ms",
    "P99 ms",
    *(path.replace("_", " ") for path in PATHS),
    "events",
    "cache peak",
    "lanes ranking",
    "lanes filling",
    "busiest",
    "left over",
)
_SHOWN_LENGTHS = 12
_SHOWN_SECONDS = 10


def render_page(tables: Sequence[Table], chosen: Mapping[str, Any]) -> str:
    """The page.

    Args:
        tables: of the questions that were asked, in their order.
        chosen: the user's overrides, by dotted key.
    """
    study, workload, relay = compose({**REFERENCE, **chosen})
    device = durations(study)
    environment = Environment(
        loader=PackageLoader("recascade_relaygr.study"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    settings = {"study": asdict(study), "workload": asdict(workload), "relay": asdict(relay)}
    return environment.get_template("page.html").render(
        style=Markup(files("recascade_relaygr.study").joinpath("templates/style.css").read_text("utf-8")),
        device=device.device,
        simulated=device.simulated,
        study=study,
        relay=relay,
        sections=[_section(table) for table in tables],
        poor=poor_settings(tables),
        settings=yaml.safe_dump(settings, sort_keys=False),
        **_costs(device),
    )


def csv_table(tables: Sequence[Table]) -> str:
    """One row for each question, series and place: mean, range, ratio to full inference, and shares of the paths."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "series", "place", "mean", "low", "high", "ratio", *PATHS])
    for table in tables:
        for row, (series, figures) in enumerate(zip(table.experiment.series, table.rows, strict=True)):
            for place, (name, figure) in enumerate(zip(table.places, figures, strict=True)):
                paths = figure.facts.get("paths", {})
                ratio = table.ratio(row, place)
                values = [f"{value:.6g}" for value in (figure.mean, figure.low, figure.high)]
                shares = [f"{paths[path]:.4f}" if path in paths else "" for path in PATHS]
                told = "" if ratio is None else f"{ratio:.4g}"
                writer.writerow([table.experiment.name, series.label, name, *values, told, *shares])
    return text.getvalue()


def _section(table: Table) -> dict[str, Any]:
    experiment = table.experiment
    lines = [
        Line(series.label, *([getattr(figure, name) for figure in row] for name in ("mean", "low", "high")))
        for series, row in zip(experiment.series, table.rows, strict=True)
    ]
    shown = range(len(table.places))
    if experiment.kind == "timeline":
        shown = range(0, len(table.places), len(table.places) // _SHOWN_SECONDS)
    return {
        "name": experiment.name,
        "title": experiment.title,
        "text": experiment.text,
        "axis": experiment.axis,
        "chart": chart(experiment.title, table.places, experiment.axis, _UNITS[experiment.kind], lines)
        if len(table.places) > 1
        else Markup(f"<p>Shown are {_UNITS[experiment.kind]}.</p>"),
        "places": [table.places[place] for place in shown],
        "rows": [
            {"label": series.label, "cells": [_cell(table, number, place) for place in shown]}
            for number, series in enumerate(experiment.series)
        ],
        "fact_names": _FACTS,
        "facts": [] if experiment.kind == "history" else _facts(table),
    }


def _cell(table: Table, row: int, place: int) -> dict[str, Any]:
    figure = table.rows[row][place]
    share = table.experiment.kind in ("kept", "timeline")
    text = f"{figure.mean:.1%}" if share else f"{figure.mean:,.0f}"
    small = ""
    if not share:
        spread = f"{figure.low:,.0f}–{figure.high:,.0f}" if figure.high > figure.low else ""
        ratio = table.ratio(row, place)
        small = "  ".join(filter(None, [spread, "" if ratio is None else f"×{ratio:.2f}"]))
    return {"text": text, "small": small, "none": figure.mean == 0}


def _facts(table: Table) -> list[list[str]]:
    rows = []
    for series, figures in zip(table.experiment.series, table.rows, strict=True):
        places = table.places if table.experiment.kind != "timeline" else [""]
        for place, figure in zip(places, figures, strict=False):
            if figure.facts:
                rows.append(_fact(f"{series.label} · {place}" if place else series.label, figure))
    return rows


def _fact(label: str, figure: Figure) -> list[str]:
    facts = figure.facts
    return [
        label,
        f"{facts['answered']:.2%}",
        f"{facts['rank_p50'] * 1e3:.1f}",
        f"{facts['rank_p99'] * 1e3:.1f}",
        *(f"{facts['paths'][path]:.1%}" for path in PATHS),
        f"{facts['tokens']:,.0f}",
        f"{facts['peak_share']:.0%}",
        f"{facts['rank_share']:.0%}",
        f"{facts['fill_share']:.0%}",
        f"×{facts['busiest']:.2f}",
        f"{facts['left_over']}",
    ]


def _costs(device: Durations) -> dict[str, Any]:
    lengths = device.costs.full_table.lengths
    lengths = lengths[:: -(-len(lengths) // _SHOWN_LENGTHS)]
    candidates = device.costs.full_table.candidates[-1]
    tables = {
        f"full inference, {candidates} candidates": device.costs.full_table,
        f"ranking on a stored prefix, {candidates} candidates": device.costs.rank_table,
        "running the prefix": device.costs.prefill_table,
        "reloading it from host memory": device.costs.reload_table,
    }
    return {
        "lengths": [f"{length:,}" for length in lengths],
        "costs": [
            (kind, [f"{table.seconds(length, candidates) * 1e3:.1f}" for length in lengths])
            for kind, table in tables.items()
        ],
    }
