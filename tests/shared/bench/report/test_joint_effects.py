from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recascade.bench.report.ablation import ablations
from recascade.bench.report.joint_effects import JointEffects, joint_effects, pareto_front
from recascade.bench.report.page import render_page
from recascade.bench.report.report import Report, collect
from recascade.bench.report.tables import markdown

MakeRun = Callable[..., Path]
METRIC = "ndcg@10"


def of(report: Report) -> JointEffects | None:
    (board,) = report.boards
    (ablation,) = ablations(board)
    return joint_effects(board, ablation)


@pytest.fixture
def grid(make_run: MakeRun, tmp_path: Path) -> Path:
    """Two choices of which each is worth something alone, in a full 2 × 2 grid, with a third axis on top."""
    for blocks in (2, 4):
        for dimension, dropout, strength in ((64, 0.2, 0.2), (128, 0.2, 0.4), (64, 0.5, 0.5), (128, 0.5, 0.45)):
            overrides = {"model.dimension": dimension, "model.dropout": dropout, "model.blocks": blocks}
            make_run(tmp_path, "hstu", overrides=overrides, strength=strength + 0.02 * blocks, cost_scale=dimension)
    return tmp_path


def value(report: Report, dimension: int, dropout: float, blocks: int) -> float:
    wanted = {"model.dimension": dimension, "model.dropout": dropout, "model.blocks": blocks}
    for entry in report.boards[0].entries:
        settings = {key: entry.overrides.get(key) for key in wanted}
        found = entry.value(METRIC)
        if settings == wanted and found is not None:
            return found.mean
    raise AssertionError(wanted)


def test_a_mean_effect_is_the_mean_over_the_settings_of_the_other_axes(grid: Path) -> None:
    report = collect(grid)
    joint = of(report)
    assert joint is not None
    (effect,) = (effect for effect in joint.means if effect.axis == "model.dimension")
    low, high = (64, 128) if effect.value == "128" else (128, 64)
    steps = [
        value(report, high, dropout, blocks) - value(report, low, dropout, blocks)
        for dropout in (0.2, 0.5)
        for blocks in (2, 4)
    ]
    assert effect.settings == 4
    assert effect.differences[METRIC].mean == pytest.approx(np.mean(steps))
    assert (effect.least[METRIC], effect.most[METRIC]) == pytest.approx((min(steps), max(steps)))


def test_an_interaction_is_what_a_gain_loses_or_wins_beside_the_other_choice(grid: Path) -> None:
    report = collect(grid)
    joint = of(report)
    assert joint is not None and len(joint.interactions) == 3
    (found,) = (
        found for found in joint.interactions if {found.axis, found.other_axis} == {"model.dimension", "model.dropout"}
    )
    base = ablations(report.boards[0])[0].base.overrides
    dimension, dropout = base["model.dimension"], base["model.dropout"]
    other_dimension, other_dropout = 192 - dimension, round(0.7 - dropout, 1)

    def gain(at: float) -> float:
        steps = [value(report, other_dimension, at, blocks) - value(report, dimension, at, blocks) for blocks in (2, 4)]
        return float(np.mean(steps))

    assert found.axis == "model.dimension" and found.settings == 2
    assert found.alone[METRIC] == pytest.approx(gain(dropout))
    assert found.together[METRIC] == pytest.approx(gain(other_dropout))
    assert found.changes[METRIC].mean == pytest.approx(gain(other_dropout) - gain(dropout))


def test_nothing_on_the_front_is_beaten_and_everything_else_is(grid: Path) -> None:
    entries = list(collect(grid).boards[0].entries)
    front = pareto_front(entries, METRIC)
    assert front and len(front) < len(entries)

    def merits(entry: object) -> tuple[float, float, float]:
        return (
            entry.value(METRIC).mean,  # type: ignore[attr-defined]
            -entry.cost["fit_cpu_seconds"].mean,  # type: ignore[attr-defined]
            -entry.cost["latency_p50"].mean,  # type: ignore[attr-defined]
        )

    for entry in entries:
        beaten = any(
            merits(other) != merits(entry) and all(b >= a for a, b in zip(merits(entry), merits(other), strict=True))
            for other in entries
        )
        assert beaten != (entry in front)


def test_one_factor_at_a_time_says_nothing_of_choices_together(make_run: MakeRun, tmp_path: Path) -> None:
    for overrides in ({}, {"model.dimension": 32}, {"model.blocks": 4}):
        make_run(tmp_path, "hstu", overrides=overrides)
    assert of(collect(tmp_path)) is None


def test_the_page_and_the_markdown_say_it(grid: Path) -> None:
    report = collect(grid)
    page, text = render_page(report), markdown(report, "title")
    for words in ("Where the gain of a choice goes", "averaged over all settings", "Pareto front"):
        assert words in page and words in text
