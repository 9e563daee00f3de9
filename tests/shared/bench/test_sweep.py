from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from recascade.bench.job import run_job
from recascade.bench.runner import Event
from recascade.bench.store import CONFIG_FILE, LISTS_FILE, LOG_FILE, METRICS_FILE, RESULT_FILE, SOURCES_FILE, Run
from recascade.bench.suite import configs_of
from recascade.bench.sweep import Sweep, lay_out
from recascade.data.synthetic import markov_log
from recascade.errors import ConfigurationError

PROGRAM = """
import sys
from pathlib import Path
from recascade.bench.runner import LocalRunner
from recascade.bench.suite import configs_of
from recascade.bench.sweep import compute, lay_out

if __name__ == "__main__":
    log, output = sys.argv[1:3]
    configs = configs_of("acme", log, "default", 1, {"model.behaviour": "wait"})
    compute(lay_out(configs, Path(output), print), LocalRunner(1, 1), lambda event: None, lambda: None)
"""


def directories(events: list[Event], kind: str) -> list[Path]:
    return [event.directory for event in events if event.kind == kind]


def fits(sweep: Sweep) -> list[int]:
    """How often each run was fitted: acme leaves a mark each time."""
    return [len((run.directory / "fitted").read_text()) for run in sweep.runs]


def test_a_run_leaves_everything_the_report_reads(run_sweep) -> None:
    sweep, events = run_sweep({"model.width": 16})
    directory = sweep.runs[0].directory
    assert directories(events, "finished") == [directory]
    result = json.loads((directory / RESULT_FILE).read_text())
    assert (result["method"], result["variant"], result["seed"]) == ("acme", "default", 0)
    assert result["overrides"] == {"model.width": 16}
    assert result["status"] == "finished" and result["error"] is None
    assert result["split"]["fingerprint"] == sweep.grounds[0].fingerprint
    assert directory.parts[-4] == f"log-{sweep.grounds[0].fingerprint}"
    assert result["data"]["synthetic"] is True
    assert set(result["metrics"]) == {"validation", "test"}
    cost = result["cost"]
    assert cost["peak_memory_bytes"] > 50e6
    assert cost["latency_ms"]["clock"] == "cpu" and 0 < cost["latency_ms"]["p50"] <= cost["latency_ms"]["p99"]
    stored = yaml.safe_load((directory / CONFIG_FILE).read_text())
    assert stored["model"] == {"behaviour": "fit", "width": 16, "depth": 1}
    per_user = pl.read_parquet(directory / METRICS_FILE)
    assert per_user["ndcg@10"].mean() == pytest.approx(result["metrics"]["test"]["ndcg@10"], abs=1e-12)
    lists = pl.read_parquet(directory / LISTS_FILE)
    assert lists["user_id"].equals(per_user["user_id"])
    assert lists["items"].list.len().to_list() == [20] * len(lists)
    assert not list(directory.glob(".*.tmp"))


def test_the_lists_are_what_the_metrics_measured(run_sweep, log: Path) -> None:
    sweep, _ = run_sweep({})
    directory = sweep.runs[0].directory
    last = (
        pl.read_parquet(log / "interactions.parquet")
        .sort("user_id", "timestamp")
        .group_by("user_id")
        .agg(pl.col("item_id").last())
    )
    lists = pl.read_parquet(directory / LISTS_FILE).join(last, on="user_id")
    hit = lists.select("user_id", hit=pl.col("item_id").is_in(pl.col("items").list.head(10)).cast(pl.Float64))
    joined = pl.read_parquet(directory / METRICS_FILE).join(hit, on="user_id")
    assert np.array_equal(joined["hit_rate@10"].to_numpy(), joined["hit"].to_numpy())


def test_finished_runs_are_never_computed_again(run_sweep) -> None:
    sweep, _ = run_sweep({}, {"model.width": 16})
    before = [(run.directory / RESULT_FILE).stat().st_mtime_ns for run in sweep.runs]
    again, events = run_sweep({}, {"model.width": 16}, {"model.width": 32})
    assert directories(events, "started") == [again.runs[2].directory]
    assert fits(again) == [1, 1, 1]
    assert [(run.directory / RESULT_FILE).stat().st_mtime_ns for run in sweep.runs] == before


def test_two_ways_to_say_one_run_are_one_run(run_sweep) -> None:
    sweep, events = run_sweep({}, {"model.width": 8}, {"trainer.progress": False})
    assert len(sweep.runs) == 1
    assert len(directories(events, "started")) == 1


def test_a_failed_run_stops_no_other_and_is_tried_again(run_sweep) -> None:
    settings = [{"model.behaviour": "diverge"}, {"model.behaviour": "bug"}, {"model.behaviour": "die"}, {}]
    sweep, events = run_sweep(*settings)
    problems = {event.directory: event.problem for event in events if event.kind == "failed"}
    diverged, bug, died, fine = [run.directory for run in sweep.runs]
    assert directories(events, "finished") == [fine]
    assert problems[diverged] == "The loss is not a number at step 3; lower trainer.learning_rate."
    assert "shapes do not match" in problems[bug]
    assert "killed by signal 9" in problems[died]
    assert [Run(directory).state for directory in (diverged, bug, died, fine)] == [
        "failed",
        "failed",
        "unfinished",
        "finished",
    ]
    assert "Traceback" in (bug / LOG_FILE).read_text()
    again, _ = run_sweep(*settings)
    assert fits(again) == [2, 2, 2, 1]


def test_results_do_not_depend_on_how_many_run_at_a_time(run_sweep) -> None:
    settings = [{"model.width": width} for width in (1, 2, 3)]
    one, _ = run_sweep(*settings, processes=1, output="one")
    three, _ = run_sweep(*settings, processes=3, output="three")
    for first, second in zip(one.runs, three.runs, strict=True):
        assert pl.read_parquet(first.directory / METRICS_FILE).equals(pl.read_parquet(second.directory / METRICS_FILE))


def test_a_directory_with_another_configuration_is_not_overwritten(run_sweep, log: Path, tmp_path: Path) -> None:
    sweep, _ = run_sweep({})
    path = sweep.runs[0].directory / CONFIG_FILE
    path.write_text(path.read_text().replace("max_epochs: 50", "max_epochs: 51"))
    with pytest.raises(ConfigurationError, match=r"differs in trainer\.max_epochs"):
        lay_out(configs_of("acme", str(log), "default", 1, {}), tmp_path / "runs", lambda _: None)


def test_the_same_data_by_another_path_are_said_to_be_that(run_sweep, log: Path, tmp_path: Path) -> None:
    run_sweep({})
    copied = shutil.copytree(log, tmp_path / "copy" / "log")
    with pytest.raises(
        ConfigurationError, match=rf"was begun with --data {log}, which holds the same events as {copied}"
    ):
        lay_out(configs_of("acme", str(copied), "default", 1, {}), tmp_path / "runs", lambda _: None)


@pytest.fixture
def described(home: Path, tmp_path: Path) -> Path:
    """A data set with texts that a test may change."""
    markov_log(tmp_path / "described", users=60, items=30, mean_length=12.0, features=True, seed=1, name="described")
    return tmp_path / "described"


def change_texts(data: Path) -> None:
    items = pl.read_parquet(data / "items.parquet")
    items.with_columns(text=pl.lit("other")).write_parquet(data / "items.parquet")


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of a version that noted nothing"])
def test_a_run_of_a_changed_data_set_is_refused(described: Path, tmp_path: Path, noted: bool) -> None:
    """The split and its fingerprint stay the same: they know nothing of the catalogue's columns."""
    configs = configs_of("popularity", str(described), "default", 1, {})
    (run,) = lay_out(configs, tmp_path / "runs", lambda _: None).runs
    run_job(run.directory, threads=1)
    if not noted:
        (run.directory / SOURCES_FILE).unlink()
    assert lay_out(configs, tmp_path / "runs", lambda _: None).finished_runs
    change_texts(described)
    with pytest.raises(ConfigurationError, match=r"computed from other files \(data changed since\)"):
        lay_out(configs, tmp_path / "runs", lambda _: None)
    with pytest.raises(ConfigurationError, match="computed from other files"):
        run_job(run.directory, threads=1)


def test_a_run_with_a_changed_file_is_refused_and_its_path_is_absolute(
    home: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "offered.txt").write_text("1\n2\n")
    configs = configs_of("popularity", str(log), "default", 1, {"evaluation.candidates": "offered.txt"})
    assert configs[0].evaluation.candidates == str(tmp_path / "offered.txt")
    lay_out(configs, tmp_path / "runs", lambda _: None)
    lay_out(configs, tmp_path / "runs", lambda _: None)
    (tmp_path / "offered.txt").write_text("1\n3\n")
    with pytest.raises(ConfigurationError, match=r"\(evaluation\.candidates changed since\)"):
        lay_out(configs, tmp_path / "runs", lambda _: None)


def test_lists_of_a_changed_catalogue_are_other_lists(described: Path, tmp_path: Path) -> None:
    settings = {"split.protocol": "ratio", "lists.candidates": 20, "lists.window": 2}
    configs = configs_of("initial-order", str(described), "default", 1, settings)
    before = lay_out(configs, tmp_path / "runs", lambda _: None)
    change_texts(described)
    after = lay_out(configs, tmp_path / "runs", lambda _: None)
    assert before.runs[0].directory != after.runs[0].directory


@pytest.fixture
def waiting(home: Path, log: Path, acme: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program whose only run waits to be interrupted; it gives the process and the run's directory."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), str(log), str(tmp_path / "runs")], start_new_session=True, text=True
    )
    deadline = time.monotonic() + 120
    while not (marks := list(tmp_path.glob("runs/*/*/*/*/waiting"))):
        assert process.poll() is None and time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.1)  # between two looks at another process's work
    yield process, marks[0].parent
    if process.poll() is None:
        process.kill()
        process.wait()


def wait_for(path: Path) -> bool:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # between two looks at another process's work
    return path.exists()


@pytest.mark.parametrize("whole_group", [True, False], ids=["as a terminal does", "the command alone"])
def test_ctrl_c_lets_runs_write_their_checkpoint_once(waiting, whole_group: bool) -> None:
    process, directory = waiting
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert (directory / "checkpointed").exists()
    assert Run(directory).state == "unfinished"


def test_a_run_does_not_outlive_a_killed_command(waiting) -> None:
    process, directory = waiting
    process.kill()
    process.wait()
    assert wait_for(directory / "checkpointed")
