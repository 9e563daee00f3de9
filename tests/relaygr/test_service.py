"""The HTTP service: hints and rankings by name, and every mistake a sentence that leaves the engine as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from http_service import Ask, answering

from recascade.errors import ConfigurationError, DataError
from recascade.serving.metrics import Metrics
from recascade_relaygr.commands import commands
from recascade_relaygr.ranker.safety import PrefixUnsafeError
from recascade_relaygr.run_folder import ServedRun
from recascade_relaygr.serve import serve
from recascade_relaygr.serve_config import ServeConfig
from recascade_relaygr.service import RelayService

OPTIONS: dict[str, Any] = {
    "relay.rank_budget_ms": 1e4,
    "relay.join_slop_ms": 1e4,
    "relay.cache.page_tokens": 8,
    "relay.cache.window_ms": 1e4,
    "relay.cache.longest_window_ms": 1e4,
    "relay.executor.chunk_tokens": 32,
    "relay.trigger.enabled": False,
    "serve.candidates": 30,
}


@pytest.fixture(scope="module")
def ask(run_folder: Path) -> Iterator[Ask]:
    with answering(serve(run_folder, OPTIONS)) as asked:
        yield asked


def longest(run: ServedRun) -> str:
    return max(run.histories, key=lambda user: run.histories[user].items.numel())


def test_a_hinted_request_is_ranked_on_its_prefix(ask: Ask, run: ServedRun) -> None:
    user, names = longest(run), list(run.items)[:12]
    status, ticket = ask("POST", "/hint", {"user": user, "candidates": 12})
    assert status == 200 and ticket["admitted"] and ticket["owner"] == "instance-0"
    status, answer = ask("POST", "/rank", {"user": user, "items": names, "ticket": ticket["ticket"]})
    assert status == 200 and answer["path"] in ("relay", "relay_joined")
    read = run.histories[user].last(answer["events"])
    expected = run.model.score(read, torch.arange(12)[None])[0]
    assert torch.allclose(torch.tensor(answer["scores"]), expected, atol=1e-5)
    assert answer["items"] == names and answer["version"] == run.version


def test_a_request_brings_its_own_history(ask: Ask, run: ServedRun) -> None:
    names = list(run.items)
    content = {
        "user": "nobody",
        "items": names[5:9],
        "history": names[:3],
        "timestamps": [10, 20, 30],
        "now": 100,
    }
    status, answer = ask("POST", "/rank", content)
    assert status == 200 and answer["path"] == "full" and answer["events"] == 3
    assert ask("POST", "/rank", {"user": "nobody", "items": names[:2], "history": []})[1]["events"] == 0
    assert ask("POST", "/rank", {"user": "nobody", "items": names[:2]})[1]["events"] == 0


def test_statistics_health_and_metrics_tell_of_the_answers(ask: Ask, run: ServedRun) -> None:
    ask("POST", "/rank", {"user": "somebody", "items": list(run.items)[:2]})
    status, stats = ask("GET", "/stats")
    assert status == 200 and stats["answers"] >= 1 and sum(stats["shares"].values()) == pytest.approx(1)
    assert stats["prefix_bytes"] <= stats["prefix_capacity_bytes"] and stats["prefix_error"] < 1e-5
    health = ask("GET", "/health")[1]
    assert health["items"] == 40 and health["instances"] == 1
    page = ask("GET", "/metrics")[1]
    assert "recascade_relay_answers_full_total" in page and "recascade_relay_prefix_bytes" in page


def test_a_scrape_asks_the_engine_once(run: ServedRun) -> None:
    asked: list[int] = []

    def stats() -> dict[str, Any]:
        asked.append(1)
        return {"paths": {}, "prefix_bytes": 0, "copy_bytes": 0, "fill_seconds": 0.0}

    host: Any = SimpleNamespace(engine=SimpleNamespace(stats=stats), call=lambda function: function())
    metrics = Metrics()
    RelayService(run, host, ServeConfig()).follow(metrics)
    asked.clear()
    metrics.page()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        ("/rank", {"items": ["0"]}, "'user' is missing"),
        ("/rank", {"user": "u"}, "'items' is missing"),
        ("/rank", {"user": "u", "items": "0"}, "must be a list of 1 to 30"),
        ("/rank", {"user": "u", "items": []}, "must be a list of 1 to 30"),
        ("/rank", {"user": "u", "items": ["x"] * 31}, "must be a list of 1 to 30"),
        ("/rank", {"user": "u", "items": [1.5]}, "must be a text"),
        ("/rank", {"user": "u", "items": ["no such item"]}, "'no such item', which is no item"),
        ("/rank", {"user": "u", "items": ["KNOWN"], "history": ["no such item"]}, "'history' names 'no such item'"),
        ("/rank", {"user": "u", "items": ["KNOWN"], "history": ["KNOWN"], "timestamps": [2, 1]}, "list of 1 whole"),
        ("/rank", {"user": "u", "items": ["KNOWN"], "history": ["KNOWN"], "timestamps": ["now"]}, "whole numbers"),
        (
            "/rank",
            {"user": "u", "items": ["KNOWN"], "history": ["KNOWN", "KNOWN"], "timestamps": [2, 1]},
            "oldest first",
        ),
        ("/rank", {"user": "u", "items": ["KNOWN"], "timestamps": [1]}, "belongs to 'history'"),
        ("/rank", {"user": "u", "items": ["KNOWN"], "now": -5}, "'now' is -5"),
        ("/rank", {"user": "u", "items": ["KNOWN"], "tiket": "1"}, "Did you mean 'ticket'"),
        ("/hint", {"user": "u", "candidates": 31}, "from 1 to 30"),
        ("/hint", {"user": "u", "candidates": "many"}, "whole number"),
        ("/hint", {"candidates": 3}, "'user' is missing"),
        ("/hint", [1], "JSON object"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence_and_changes_nothing(
    ask: Ask, run: ServedRun, path: str, content: Any, sentence: str
) -> None:
    known = next(iter(run.items))
    before = ask("GET", "/stats")[1]

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(each) for each in value]
        return known if value == "KNOWN" else value

    if isinstance(content, dict):
        content = {name: named(value) for name, value in content.items()}
    status, answer = ask("POST", path, content)
    assert status == 400 and sentence in answer["error"]
    after = ask("GET", "/stats")[1]
    assert (after["answers"], after["signals"], after["errors"]) == (
        before["answers"],
        before["signals"],
        before["errors"],
    )


def test_a_body_that_is_too_large_is_refused(ask: Ask) -> None:
    status, answer = ask("POST", "/rank", {"user": "u", "items": ["x" * 2_000_000]})
    assert status == 400 and "larger than" in answer["error"]


def test_a_ticket_of_another_user_is_refused_and_an_unknown_one_is_as_good_as_none(ask: Ask, run: ServedRun) -> None:
    known = next(iter(run.items))
    ticket = ask("POST", "/hint", {"user": longest(run)})[1]["ticket"]
    status, answer = ask("POST", "/rank", {"user": "other", "items": [known], "ticket": ticket})
    assert status == 400 and "another user" in answer["error"]
    assert ask("POST", "/rank", {"user": longest(run), "items": [known], "ticket": "long gone"})[0] == 200


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished run of RelayGR"):
        serve(tmp_path, {})


def test_unknown_settings_are_refused(run_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"relay\.rank_budget_ms"):
        serve(run_folder, {"relay.rank_budget": 1})


def test_states_too_coarse_for_the_tolerance_are_refused(run_folder: Path) -> None:
    with pytest.raises(PrefixUnsafeError, match="is allowed"):
        serve(run_folder, OPTIONS | {"serve.precision": "bfloat16", "serve.tolerance": 1e-9})


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(run_folder: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigurationError, match=f"serve.device is '{device}'; it must be cpu"):
        serve(run_folder, OPTIONS | {"serve.device": device})
    words = ["profile", str(run_folder), "--output", str(tmp_path / "costs.json"), "--device", device]
    found = CliRunner().invoke(commands, words)
    assert isinstance(found.exception, ConfigurationError) and "--device is" in str(found.exception)
