from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recascade.bench.report.ablation import ablations
from recascade.bench.report.heat_map import heat_maps
from recascade.bench.report.report import collect

MakeRun = Callable[..., Path]


def test_full_grid_gives_effects_around_the_defaults_and_a_heat_map(ablation: Path) -> None:
    (found,) = ablations(collect(ablation).boards[0])
    assert found.axes == {"model.dimension": ["32", "64", "128"], "model.dropout": ["0.2", "0.5"]}
    assert found.base.label == "hstu"
    assert [(effect.axis, effect.value, effect.base_value) for effect in found.effects] == [
        ("model.dimension", "32", "64"),
        ("model.dimension", "128", "64"),
        ("model.dropout", "0.5", "0.2"),
    ]
    (grid,) = found.grids
    assert [[cell.label if cell else None for cell in row] for row in grid.cells] == [
        ["hstu model.dimension=32", "hstu model.dimension=32 model.dropout=0.5"],
        ["hstu", "hstu model.dropout=0.5"],
        ["hstu model.dimension=128", "hstu model.dimension=128 model.dropout=0.5"],
    ]


def test_effect_is_the_difference_to_the_base(ablation: Path) -> None:
    (found,) = ablations(collect(ablation).boards[0])
    base = found.base.value("ndcg@10")
    for effect in found.effects:
        value = effect.entry.value("ndcg@10")
        assert value is not None and base is not None
        assert effect.differences["ndcg@10"].mean == pytest.approx(value.mean - base.mean, abs=1e-12)


def test_heat_map_marks_the_best_cell_and_the_base_and_scales_from_worst_to_best(ablation: Path) -> None:
    (found,) = ablations(collect(ablation).boards[0])
    (drawn,) = heat_maps(found, "ndcg@10")
    cells = [cell for row in drawn.cells for cell in row]
    best = max(cells, key=lambda cell: cell.value.mean if cell.value else 0.0)
    assert [cell for cell in cells if cell.best] == [best]
    assert best.share == 1.0
    assert min(cell.share for cell in cells) == 0.0
    assert [cell.base for cell in cells] == [False, False, True, False, False, False]


def test_one_factor_design_has_effects_but_no_heat_map(make_run: MakeRun, tmp_path: Path) -> None:
    for overrides in ({}, {"model.dimension": 32}, {"model.blocks": 4}, {"model.dropout": 0.5}):
        make_run(tmp_path, "hstu", overrides=overrides)
    (found,) = ablations(collect(tmp_path).boards[0])
    assert len(found.effects) == 3
    assert found.grids == []


def test_third_axis_gives_one_grid_per_value_on_one_scale(make_run: MakeRun, tmp_path: Path) -> None:
    for blocks in (2, 4):
        for dimension in (64, 128):
            for dropout in (0.2, 0.5):
                values = {"model.blocks": blocks, "model.dimension": dimension, "model.dropout": dropout}
                make_run(tmp_path, "hstu", strength=blocks / 4 + dimension / 200 - dropout, overrides=values)
    (found,) = ablations(collect(tmp_path).boards[0])
    assert [grid.fixed for grid in found.grids] == ["model.dropout=0.2", "model.dropout=0.5"]
    shares = [cell.share for drawn in heat_maps(found, "ndcg@10") for row in drawn.cells for cell in row]
    assert min(shares) == 0.0
    assert max(shares) == 1.0


def test_without_defaults_the_base_is_the_configuration_with_most_neighbours(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path, "popularity", trained=False)
    for dimension, dropout in ((32, 0.5), (128, 0.5), (128, 0.1), (128, 0.3)):
        make_run(tmp_path, "hstu", overrides={"model.dimension": dimension, "model.dropout": dropout})
    (found,) = ablations(collect(tmp_path).boards[0])
    assert found.base.label == "hstu model.dimension=128 model.dropout=0.5"


def test_a_method_with_one_configuration_is_no_ablation(sweep: Path) -> None:
    assert ablations(collect(sweep).boards[0]) == []
