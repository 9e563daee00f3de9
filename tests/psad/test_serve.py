"""The service: the student's order over HTTP, alone and with many others at a time, and mistakes as sentences."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from psad_models import psad_config
from psad_runs import request_inputs

from recascade.data.vocabulary import Vocabulary
from recascade.errors import ConfigurationError, DataError
from recascade_psad.commands import commands
from recascade_psad.identifiers import write_identifiers
from recascade_psad.model import PSADModel
from recascade_psad.requests import batch_of, read_request
from recascade_psad.reranker import StudentReranker
from recascade_psad.run_folder import write_facts, write_weights
from recascade_psad.serve import serve

http_service = pytest.importorskip("http_service")

ITEMS = {f"i{number}": number for number in range(40)}
USERS = {f"u{number}": number for number in range(9)}
NEW = 1_700_000_000


def request(number: int = 0, length: int = 6) -> dict[str, Any]:
    """A request that differs from number to number."""
    return {
        "user": f"u{number % 9}",
        "time": NEW,
        "history": [{"item": f"i{(number + step) % 40}", "time": NEW - 600 * (4 - step)} for step in range(4)],
        "candidates": [
            {"item": f"i{(7 * number + 3 * place) % 40}", "score": 1.0 / (1 + place), "features": [place, number % 5]}
            for place in range(length)
        ],
    }


def written_run(path: Path, model: PSADModel) -> Path:
    """A folder as training and naming leave it."""
    write_weights(path, model)
    write_facts(path, model.config, request_inputs())
    write_identifiers(path, (Vocabulary(list(ITEMS)), Vocabulary(list(USERS))))
    return path


@pytest.fixture(scope="module")
def model() -> PSADModel:
    torch.manual_seed(0)
    return PSADModel(psad_config(), request_inputs().schema).eval()


@pytest.fixture(scope="module")
def folder(model: PSADModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_run(tmp_path_factory.mktemp("run"), model)


@pytest.fixture
def ask(folder: Path) -> Iterator[Any]:
    with http_service.answering(serve(folder, {})) as ask:
        yield ask


def expected(model: PSADModel, values: dict[str, Any]) -> list[str]:
    """The order that the model itself gives."""
    inputs = request_inputs()
    read = read_request(values, inputs, ITEMS, USERS)
    order = StudentReranker(model).rerank(batch_of([read], inputs), len(read.names))[0]
    return [read.names[place] for place in order.tolist()][: read.count]


def test_it_answers_with_the_students_order(model: PSADModel, ask: Any) -> None:
    for number in range(5):
        status, answer = ask("POST", "/rerank", request(number))
        assert status == 200 and answer["items"] == expected(model, request(number))
        assert answer["scores"] == sorted(answer["scores"], reverse=True)
    status, answer = ask("POST", "/rerank", {**request(), "k": 2})
    assert answer["items"] == expected(model, request())[:2]
    assert ask("GET", "/health")[1]["most_candidates"] == 12


def test_two_hundred_clients_at_a_time_get_their_own_answers(model: PSADModel, ask: Any) -> None:
    start = threading.Barrier(200)

    def client(number: int) -> tuple[int, list[str]]:
        start.wait()
        status, answer = ask("POST", "/rerank", request(number, length=2 + number % 10))
        return status, answer["items"]

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(client, range(200)))
    for number, (status, items) in enumerate(answers):
        assert status == 200
        assert items == expected(model, request(number, length=2 + number % 10))
    page = ask("GET", "/metrics")[1]
    assert 'recascade_answers_total{route="POST /rerank",status="200"} 200.0' in page
    batches = float(page.split("\nrecascade_batches_total ")[1].split()[0])
    assert batches < 200
    assert "\nrecascade_batched_requests_total 200.0" in page
    assert "recascade_request_seconds_bucket" in page


def test_strangers_and_gaps_are_served(model: PSADModel, ask: Any) -> None:
    plain = {"candidates": [{"item": "i1"}, {"item": "never seen"}, {"item": "i3", "features": [None, 1e300]}]}
    for values in (plain, {**plain, "user": "nobody", "history": []}, {"candidates": [{"item": "i1"}]}):
        status, answer = ask("POST", "/rerank", values)
        assert status == 200 and answer["items"] == expected(model, values)
        assert sorted(answer["items"]) == sorted(each["item"] for each in values["candidates"])
        assert all(math.isfinite(score) for score in answer["scores"])


@pytest.mark.parametrize("score", (-1e39, -1e308, 1e39))
def test_a_score_beyond_single_precision_loses_no_candidate(model: PSADModel, ask: Any, score: float) -> None:
    values = {"candidates": [{"item": "i1", "score": score}, {"item": "i2", "score": 0.3}, {"item": "i3"}]}
    batch = batch_of([read_request(values, request_inputs(), ITEMS, USERS)], request_inputs())
    assert batch.candidate_mask.all() and batch.initial_scores.isfinite().all()
    status, answer = ask("POST", "/rerank", values)
    assert status == 200 and answer["items"] == expected(model, values)
    assert sorted(answer["items"]) == ["i1", "i2", "i3"]
    assert all(math.isfinite(each) for each in answer["scores"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    (
        ({}, "'candidates' must be a list of 1 to 12"),
        ({"candidates": []}, "list of 1 to 12"),
        ({"candidates": [{"item": f"x{number}"} for number in range(13)]}, "list of 1 to 12"),
        ({"candidates": [{"item": "i1"}, {"item": "i1"}]}, "'i1' stands more than once"),
        ({"candidates": [{"item": "i1", "scores": 1}]}, "'score'"),
        ({"candidates": [{"item": "i1", "score": "high"}]}, "score of candidate 0"),
        ({"candidates": [{"item": "i1", "features": [1]}]}, "list of 2 numbers"),
        ({"candidates": [{"item": "i1", "features": ["a", 1]}]}, "no number"),
        ({"candidates": ["i1"]}, "must be an object"),
        ({"candidates": [{"item": "i1"}], "k": 2}, "from 1 to 1"),
        ({"candidates": [{"item": "i1"}], "users": "u1"}, "'user'"),
        (
            {"candidates": [{"item": "i1"}], "history": [{"item": "i2", "time": 5}, {"item": "i3", "time": 4}]},
            "oldest first",
        ),
    ),
)
def test_mistakes_are_answered_with_a_sentence(ask: Any, values: dict[str, Any], sentence: str) -> None:
    status, answer = ask("POST", "/rerank", values)
    assert status == 400 and sentence in answer["error"]


def test_a_list_may_be_served_with_others_of_any_length(model: PSADModel) -> None:
    inputs = request_inputs()
    requests = [read_request(request(number, length=1 + number), inputs, ITEMS, USERS) for number in range(8)]
    together = StudentReranker(model).scores(batch_of(requests, inputs))
    for row, each in enumerate(requests):
        alone = StudentReranker(model).scores(batch_of([each], inputs))[0]
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-5)
        assert torch.isneginf(together[row, len(alone) :]).all()


def test_what_cannot_be_served_is_said(folder: Path, model: PSADModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run"):
        serve(tmp_path, {})
    with pytest.raises(ConfigurationError, match=r"serve\.engine"):
        serve(folder, {"serve.engine": "tensorrt"})
    (written_run(tmp_path, model) / "items.parquet").unlink()
    with pytest.raises(DataError, match="how its items are called"):
        serve(tmp_path, {})


def test_a_run_is_exported_from_the_command_line(model: PSADModel, tmp_path: Path) -> None:
    run = written_run(tmp_path / "run", model)
    result = CliRunner().invoke(commands, ["export", str(run), str(tmp_path / "out"), "--no-onnx"])
    assert result.exit_code == 0, result.output
    assert "of the teacher are left out" in result.output
    with http_service.answering(serve(tmp_path / "out", {"serve.engine": "torch"})) as ask:
        assert ask("POST", "/rerank", request())[1]["items"] == expected(model, request())
