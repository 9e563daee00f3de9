"""A cascade as a user meets it: train, serve, swap a stage, and the grid of stages with its report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

Command = Callable[..., str]
LINE = [sys.executable, "-m", "recascade.cli.main"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from recascade.data.synthetic import markov_log

    folder = tmp_path_factory.mktemp("cascade")
    markov_log(folder / "log", users=150, items=60, mean_length=25.0, features=True, seed=4)
    return folder


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "RECASCADE_HOME": str(place / "home"), "RECASCADE_DATA": "", "COLUMNS": "120"}


@pytest.fixture(scope="module")
def command(place: Path) -> Command:
    def run(*words: str, status: int = 0) -> str:
        done = subprocess.run([*LINE, *words], cwd=place, env=environment(place), capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def trained(command: Command) -> str:
    settings = ("retrieved=30", "reranked=10", "list_window=3")
    said = command("cascade", "train", "log", "one", "retriever=item-knn", "reranker=mmr", *settings)
    command("cascade", "train", "log", "two", "retriever=co-visit", "reranker=initial-order", *settings)
    return said


@pytest.fixture
def address(place: Path, trained: str) -> Iterator[str]:
    process = subprocess.Popen(
        [*LINE, "serve", "cascade", "one", "--port", "0", "serve.retriever_deadline=5000"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert found is not None
    yield found[0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def ask(url: str, content: Any = None) -> Any:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def test_training_says_what_each_stage_is_worth(trained: str) -> None:
    assert re.search(r"retriever\s+item-knn\s+0\.\d{4}", trained)
    assert re.search(r"reranker\s+mmr\s+0\.\d{4}", trained)
    assert "recascade serve cascade one" in trained


def test_the_service_answers_and_takes_another_stage_without_a_pause(address: str) -> None:
    user = ask(f"{address}/users")["users"][0]
    first = ask(f"{address}/recommend?user={user}&k=5")
    assert len(set(first["items"])) == 5
    assert first["versions"]["retriever"].startswith("item-knn ")
    swapped = ask(f"{address}/admin/swap", {"stage": "retriever", "cascade": "two"})
    assert swapped["versions"]["retriever"].startswith("co-visit ")
    assert swapped["versions"]["reranker"].startswith("mmr ")
    assert ask(f"{address}/recommend?user={user}&k=5")["versions"] == swapped["versions"]


def test_the_grid_of_stages_shares_them_and_its_report_says_where_gains_go(place: Path, command: Command) -> None:
    axes = ("retriever=popularity,item-knn", "reranker=none,mmr")
    fixed = ("model.retrieved=30", "model.reranked=10")
    line = ("ablate", "cascade", *axes, *fixed, "--data", "log", "--output", "grid", "--jobs", "2", "--threads", "1")
    command(*line)
    results = list((place / "grid").glob("*/cascade/*/*/result.json"))
    assert len(results) == 4
    command("report", "grid", "--output", "grid/report.html")
    text = (place / "grid" / "report.md").read_text()
    table = text.partition("#### Where the gain of a choice goes")[2]
    assert "| model.retriever=" in table and "| model.reranker=mmr |" in table.replace("| model.reranker=none |", "")
    assert "4 of 4 runs are finished already" in command(*line)


def test_a_combination_that_cannot_work_is_refused_before_anything_runs(place: Path, command: Command) -> None:
    said = command("ablate", "cascade", "ranker=none,mmr", "--data", "log", "--output", "never", status=2)
    assert "model.ranker is 'mmr', which serves re-ranking, not ranking" in said
    assert not (place / "never").exists()
