"""From a generated log to a page: run, bench, an interrupted sweep that goes on, ablate, compare, report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SUITE = """
title: end to end
data: {log}
seeds: 2
split: {{protocol: last-basket, ties: group}}
evaluation: {{exclude_seen: false}}
trainer: {{max_epochs: 60, patience: 0, accelerator: cpu}}
runs:
  - method: popularity
  - method: personal-frequency
  - method: sasrec
    model: {{dimension: 16, max_length: 20}}
"""
SPLIT = ["split.protocol=last-basket", "split.ties=group"]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a generated log of baskets and a suite; results come beside them."""
    from recascade.data.synthetic import markov_log

    folder = tmp_path_factory.mktemp("end-to-end")
    markov_log(folder / "log", users=150, items=60, mean_length=25.0, basket_size=2.0, features=True, seed=4)
    (folder / "suite.yaml").write_text(SUITE.format(log=folder / "log"))
    return folder


@pytest.fixture(scope="module")
def command(place: Path) -> Command:
    """``command(words, …)`` runs recascade as a user does."""

    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(_line(*words), cwd=place, env=_environment(place), capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def _line(*words: str) -> list[str]:
    return [sys.executable, "-m", "recascade.cli.main", *words]


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "RECASCADE_HOME": str(place / "home"), "RECASCADE_DATA": "", "COLUMNS": "120"}


def _results(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*/*/result.json")}


@pytest.fixture(scope="module")
def suite(place: Path, command: Command) -> Path:
    """Results of the suite, computed by a command that was interrupted once and then given again."""
    line = _line("bench", "suite.yaml", "--output", "bench", "--jobs", "2", "--threads", "1")
    first = subprocess.Popen(
        line, cwd=place, env=_environment(place), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    output = place / "bench"
    deadline = time.monotonic() + 240
    while len(list(output.glob("*/sasrec/*/*/checkpoints/last.ckpt"))) < 2 and first.poll() is None:
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert "runs are finished and kept; the same command goes on from there." in said
    finished = _results(output)
    assert 2 <= len(finished) < 4
    again = command(*line[3:])
    assert f"{len(finished)} of 4 runs are finished already and are kept." in again.stderr
    assert {path: stamp for path, stamp in _results(output).items() if path in finished} == finished
    assert len(_results(output)) == 4
    return output


def test_an_interrupted_suite_ends_as_an_uninterrupted_one(suite: Path, place: Path, command: Command) -> None:
    settings = ["trainer.max_epochs=60", "trainer.patience=0", "trainer.accelerator=cpu"]
    settings += ["model.dimension=16", "model.max_length=20"]
    command(
        "run", "sasrec", "--data", "log", "--seeds", "2", "--output", "whole", "--jobs", "2", "--threads", "1",
        *SPLIT, *settings,
    )  # fmt: skip
    whole = {path.relative_to(place / "whole"): path for path in (place / "whole").glob("*/*/*/*/weights.safetensors")}
    assert len(whole) == 2
    for name, path in whole.items():
        assert (suite / name).read_bytes() == path.read_bytes()


def test_the_leaderboard_names_its_split_and_cost(suite: Path, command: Command) -> None:
    out = command("bench", "suite.yaml", "--output", "bench").stdout
    for word in ("popularity", "personal-frequency", "sasrec", "±", "last-basket", "ties: group", "SYNTHETIC"):
        assert word in out
    assert suite.name in out


def test_compare_pairs_users_and_refuses_other_splits(suite: Path, place: Path, command: Command) -> None:
    (board,) = [path for path in suite.iterdir() if path.is_dir()]
    out = command("compare", f"{board}/popularity", f"{board}/sasrec", "--metric", "recall@10").stdout
    assert "Compared with popularity" in out and "recall@10" in out and board.name.rpartition("-")[2] in out
    command("run", "popularity", "--data", "log", "--output", "other")
    refused = command("compare", f"{board}/popularity", "other", status=2).stderr
    assert "must not stand in one table" in refused


@pytest.mark.parametrize("method", ["transition", "sasrec"])
def test_refit_learns_from_the_validation_events_before_the_test(method: str, place: Path, command: Command) -> None:
    settings = ["model.dimension=16", "trainer.max_epochs=4", "trainer.accelerator=cpu"] if method == "sasrec" else []
    results = []
    for refit in ("false", "true"):
        output = f"refit-{method}-{refit}"
        command("run", method, "--data", "log", "--seeds", "1", "--output", output, *settings, f"trainer.refit={refit}")
        (path,) = _results(place / output)
        results.append(json.loads(path.read_text()))
    chosen, refitted = results
    assert refitted["metrics"]["validation"] == chosen["metrics"]["validation"]
    assert refitted["metrics"]["test"]["ndcg@20"] != chosen["metrics"]["test"]["ndcg@20"]
    assert refitted["groups"]["popularity"]["head"]["users"] == chosen["groups"]["popularity"]["head"]["users"]
    assert refitted["overrides"]["trainer.refit"] is True


def test_an_ablation_shares_the_run_that_changes_nothing(place: Path, command: Command) -> None:
    axes = ["neighbours=5,100", "shrinkage=0,10"]
    command("ablate", "item-knn", *axes, *SPLIT, "--data", "log", "--output", "ablation")
    assert len(_results(place / "ablation")) == 4
    before = _results(place / "ablation")
    command("ablate", "item-knn", *axes, *SPLIT, "--data", "log", "--output", "ablation", "--one-factor")
    assert _results(place / "ablation") == before
    results = [json.loads(path.read_text()) for path in before]
    assert {tuple(sorted(result["overrides"].items())) for result in results} == {
        (),
        (("model.neighbours", 5),),
        (("model.shrinkage", 0.0),),
        (("model.neighbours", 5), ("model.shrinkage", 0.0)),
    }


def test_the_report_is_one_page_without_a_network(suite: Path, place: Path, command: Command) -> None:
    command("report", "bench", "--output", "page.html")
    page = (place / "page.html").read_text(encoding="utf-8")
    for word in ("sasrec", "personal-frequency", "last-basket", "group"):
        assert word in page
    assert 'src="http' not in page and 'href="http' not in page
