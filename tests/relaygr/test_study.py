"""The cluster study: cells that are computed once, tables, a page that needs nothing else, and its command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from recascade.errors import ConfigurationError, DataError
from recascade.files import write_json
from recascade_relaygr.commands import commands
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.simulation.cost_tables import accelerator_like, read_durations
from recascade_relaygr.study.cells import Cell, cells, compose, compute
from recascade_relaygr.study.config import EXPERIMENTS, REFERENCE
from recascade_relaygr.study.experiments import Experiment, Series, experiments
from recascade_relaygr.study.page import render_page
from recascade_relaygr.study.profile import measure_durations
from recascade_relaygr.study.study import PAGE, TABLE, run_study
from recascade_relaygr.study.tables import make_table, poor_settings

QUICK: dict[str, Any] = {
    "study.experiments": ["loss", "faults"],
    "study.seeds": 1,
    "study.warm_up_seconds": 0.5,
    "study.seconds": 2.0,
    "study.instances": 1,
    "workload.gap_seconds": 2.0,
    "workload.rate": 4.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    run_study(folder, QUICK)
    return folder


def test_every_question_is_known_by_its_name_and_composes() -> None:
    assert tuple(experiments()) == EXPERIMENTS
    for experiment in experiments().values():
        for cell in cells(experiment, 0, {}):
            compose(cell.overrides)


def test_the_users_settings_hold_except_where_a_question_varies_them() -> None:
    chosen = {"workload.slack_ms": 77.0, "workload.reuse": 0.3}
    varied = [cell for cell in cells(experiments()["slack"], 0, chosen) if cell.series.label == "full inference"]
    assert [compose(cell.overrides)[1].slack_ms for cell in varied] == list(experiments()["slack"].values)
    assert {compose(cell.overrides)[1].reuse for cell in varied} == {0.3}


def test_cells_of_other_settings_have_other_files(tmp_path: Path) -> None:
    question = experiments()["reuse"]
    paths = [
        cell.path(tmp_path)
        for chosen in ({}, {"workload.candidates": 64}, {"relay.executor.lanes": 2}, {"study.seconds": 11.0})
        for seed in range(2)
        for cell in cells(question, seed, chosen)
    ]
    assert len(set(paths)) == len(paths)


def test_which_questions_are_asked_does_not_change_a_cells_file(tmp_path: Path) -> None:
    question = experiments()["reuse"]
    asked = [
        [cell.path(tmp_path) for cell in cells(question, 0, chosen)]
        for chosen in ({}, {"study.experiments": ["reuse"], "study.seeds": 9, "study.processes": 2})
    ]
    assert asked[0] == asked[1]


def test_finished_cells_are_not_computed_again_and_missing_ones_are(folder: Path) -> None:
    files = sorted(folder.glob("*/*.json"))
    before = {file: file.stat().st_mtime_ns for file in files}
    page = (folder / PAGE).read_text()
    files[0].unlink()
    run_study(folder, QUICK)
    after = {file: file.stat().st_mtime_ns for file in sorted(folder.glob("*/*.json"))}
    assert list(after) == files
    assert [file for file in files if after[file] != before[file]] == files[:1]
    assert (folder / PAGE).read_text() == page


def test_the_page_needs_nothing_else_and_says_what_is_simulated(folder: Path) -> None:
    page = (folder / PAGE).read_text()
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "<script" not in page
    assert "Everything on this page is simulated" in page
    assert page.count("<figure>") == 1
    assert "on other hardware and another workload" in re.sub(r"\s+", " ", page)
    for label in ("full inference, one of eight is lost", "signals come twice", "relay, three of eight are lost"):
        assert label in page


def test_the_table_has_a_row_for_each_figure(folder: Path) -> None:
    lines = (folder / TABLE).read_text().splitlines()
    asked = [experiments()[name] for name in QUICK["study.experiments"]]
    assert len(lines) == 1 + sum(len(each.series) * len(each.values) for each in asked)
    assert lines[0].startswith("experiment,series,place,mean,low,high,ratio,relay")


def test_two_processes_give_what_one_gives(folder: Path, tmp_path: Path) -> None:
    run_study(tmp_path, {**QUICK, "study.experiments": ["faults"], "study.processes": 2})
    files = list(tmp_path.glob("faults/*.json"))
    assert len(files) == len(experiments()["faults"].series)
    for file in files:
        assert file.read_bytes() == (folder / "faults" / file.name).read_bytes()


class TestTables:
    EXPERIMENT = Experiment(
        "q", "Question", "", "load", "workload.rate", "rate", (1, 2), (Series("full", "full"), Series("ours", "relay"))
    )

    def records(self, full: list[float], ours: list[float]) -> dict[tuple[str, Any], list[dict[str, Any]]]:
        places = [("full", 1), ("full", 2), ("ours", 1), ("ours", 2)]
        return {
            place: [{"value": value}, {"value": value + 2}] for place, value in zip(places, full + ours, strict=True)
        }

    def test_means_ranges_and_ratios(self) -> None:
        table = make_table(self.EXPERIMENT, self.records([9, 19], [29, 19]))
        figure = table.rows[1][0]
        assert (figure.mean, figure.low, figure.high) == (30, 29, 31)
        assert table.ratio(1, 0) == 3.0
        assert table.ratio(0, 0) is None

    def test_settings_that_do_not_pay_are_found(self) -> None:
        table = make_table(self.EXPERIMENT, self.records([9, 19], [29, 19]))
        assert poor_settings([table]) == [("Question", "rate: 2", "ours", "1.00")]

    def test_there_is_no_ratio_to_nothing(self) -> None:
        table = make_table(self.EXPERIMENT, self.records([-1, 19], [29, 19]))
        assert table.ratio(1, 0) is None


class TestDurations:
    def test_the_accelerator_is_labelled_as_made_up(self) -> None:
        made_up = accelerator_like()
        assert made_up.simulated
        assert "simulated" in made_up.device
        assert made_up.costs.full_table.seconds(2048) == pytest.approx(33e-3)
        assert made_up.costs.rank_table.seconds(2048) == pytest.approx(6.5e-3)
        assert made_up.predicted().full_table.seconds(2048) > made_up.costs.full_table.seconds(2048)
        assert made_up.predicted() is not made_up.predicted()

    def test_measured_durations_are_read_and_drawn_from(self, tmp_path: Path) -> None:
        path = tmp_path / "costs.json"
        path.write_text(json.dumps(measured()))
        read = read_durations(path)
        assert not read.simulated
        assert read.costs.full_table.seconds(1024, 128) == 0.02
        assert sorted(set(read.factors)) == [0.5, 1.0, 1.5]
        draw = read.noise(0)
        assert {draw() for _ in range(100)} == {0.5, 1.0, 1.5}

    @pytest.mark.parametrize(
        "broken",
        [{}, {"device": "x"}, {**{}, "seconds": 3}, {"lengths": [0, 1024]}],
    )
    def test_a_file_that_says_something_else_is_refused(self, tmp_path: Path, broken: dict[str, Any]) -> None:
        path = tmp_path / "costs.json"
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=r"costs\.json is no table of measured durations"):
            read_durations(path)


class TestCommand:
    def test_it_writes_the_page_and_tells_the_means(self, folder: Path) -> None:
        words = [f"{key}={json.dumps(value)}" for key, value in QUICK.items()]
        result = CliRunner().invoke(commands, ["study", "--output", str(folder), *words])
        assert result.exit_code == 0, result.output
        assert "Loss of instances" in result.output
        assert "study.html" in result.output

    @pytest.mark.parametrize(
        ("overrides", "sentence"),
        [
            ({"study.experiments": ["reuze"]}, "'reuze'.*'reuse'"),
            ({"study.seeds": 0}, "study.seeds is 0"),
            ({"workload.reus": 0.1}, "workload.reuse"),
            ({"relay.executor.lanes": 0}, "lanes"),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_is_computed(
        self, tmp_path: Path, overrides: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=sentence):
            run_study(tmp_path, overrides)
        assert not list(tmp_path.iterdir())

    def test_missing_durations_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(DataError):
            run_study(tmp_path, {"study.costs": str(tmp_path / "nothing.json")})


def test_the_reference_is_what_the_page_says() -> None:
    _, workload, relay = compose(REFERENCE)
    assert (workload.slack_ms, workload.reuse, relay.rank_budget_ms) == (60.0, 0.5, 50.0)
    cell = Cell(experiments()["arms"], Series("x", "relay"), "", 0, {})
    assert compose(cell.overrides)[0].instances == 4


def measured() -> dict[str, Any]:
    def grid(seconds: float, candidates: int) -> list[list[list[float]]]:
        return [[[0.5 * s, s, 1.5 * s] for _ in range(candidates)] for s in (seconds, 2 * seconds)]

    return {
        "device": "a device",
        "token_bytes": 1024,
        "lengths": [512, 1024],
        "candidates": [64, 128],
        "seconds": {
            "full": grid(0.01, 2),
            "rank": grid(0.002, 2),
            "prefill": grid(0.009, 1),
            "reload": grid(0.001, 1),
        },
    }


def test_durations_that_were_measured_here_can_be_simulated(tmp_path: Path) -> None:
    model = HSTURanker(20, dimension=8, max_length=64).eval()
    path = tmp_path / "costs.json"
    write_json(path, measure_durations(model, 20, candidates=(1, 8), page_tokens=8, sweeps=2, device="cpu"))
    read = read_durations(path)
    assert not read.simulated
    assert read.costs.full_table.lengths == [0, 8, 16, 32, 56]
    assert read.token_bytes == 4 * model.state_shape[0] * model.state_shape[1]
    costs = {"study.experiments": ["faults"], "study.costs": str(path), "workload.prefix_tokens": 48}
    experiment = replace(experiments()["faults"], series=experiments()["faults"].series[:2], overrides={})
    for cell in cells(experiment, 0, QUICK | costs):
        assert read_cell_value(compute(cell, tmp_path)) == 1.0
    assert "one thread of a" in render_page([], QUICK | costs)


def test_a_ranker_too_short_for_its_pages_is_not_measured() -> None:
    with pytest.raises(ConfigurationError, match="reads 64 events"):
        measure_durations(HSTURanker(20, max_length=64), 20, candidates=(1,), page_tokens=64, sweeps=2, device="cpu")


def read_cell_value(path: Path) -> float:
    return float(json.loads(path.read_text())["value"])
