"""The load generator: think-times of the log, an open loop, and the same figures from an engine and over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from http_service import listening
from hypothesis import given
from hypothesis import strategies as st

from recascade.errors import ConfigurationError, DataError
from recascade_relaygr.commands import commands
from recascade_relaygr.load.config import LoadConfig
from recascade_relaygr.load.generator import run_load
from recascade_relaygr.load.load import measure_load
from recascade_relaygr.load.schedule import Visit, plan
from recascade_relaygr.load.targets import HttpTarget
from recascade_relaygr.load.think_times import think_times
from recascade_relaygr.run_folder import ServedRun, request_of
from recascade_relaygr.serve import serve

RELAY: dict[str, Any] = {
    "relay.rank_budget_ms": 1e4,
    "relay.join_slop_ms": 1e4,
    "relay.cache.page_tokens": 8,
    "relay.cache.window_ms": 1e4,
    "relay.cache.longest_window_ms": 1e4,
    "relay.executor.chunk_tokens": 32,
    "relay.trigger.enabled": False,
    "relay.trigger.fill_share": 1.0,
}
LOAD: dict[str, Any] = {
    "load.rate": 30.0,
    "load.warm_up_seconds": 0.2,
    "load.seconds": 0.8,
    "load.candidates": 10,
    "load.slack_ms": 200.0,
    "load.rank_ms": 5000.0,
    "load.least_events": 10,
}


@pytest.fixture(scope="module")
def url(run_folder: Path) -> Iterator[str]:
    with listening(serve(run_folder, RELAY)) as url:
        yield url


class TestThinkTimes:
    def test_gaps_within_sessions_are_counted_and_baskets_are_one_visit(self) -> None:
        times = think_times([np.array([0, 0, 0, 10, 10, 1000]), np.array([5]), np.array([], dtype=np.int64)], 60.0)
        # Visits at 0, 10 and 1,000 of one user and at 5 of another; one of the four is followed within a minute.
        assert times.share == 0.25
        assert times.gaps.tolist() == [10.0]

    @given(st.lists(st.lists(st.integers(0, 10_000), max_size=20).map(sorted), max_size=8), st.floats(1, 10_000))
    def test_shares_and_gaps_stay_in_their_bounds(self, users: list[list[int]], session: float) -> None:
        times = think_times([np.array(user, dtype=np.int64) for user in users], session)
        assert 0 <= times.share < 1
        assert ((times.gaps > 0) & (times.gaps <= session)).all()
        longer = think_times([np.array(user, dtype=np.int64) for user in users], 2 * session)
        assert longer.share >= times.share


class TestPlan:
    def test_it_names_users_and_items_of_the_run_in_the_order_of_time(self, run: ServedRun) -> None:
        config = LoadConfig(rate=50.0, seconds=5.0, warm_up_seconds=1.0, candidates=7, least_events=12)
        visits = plan(config, run.histories, list(run.items))
        assert [visit.time for visit in visits] == sorted(visit.time for visit in visits)
        assert len(visits) == pytest.approx(300, rel=0.35)
        for visit in visits:
            assert run.histories[visit.user].items.numel() >= 12
            assert len(set(visit.items)) == 7 and set(visit.items) <= set(run.items)

    def test_a_seed_says_all(self, run: ServedRun) -> None:
        plans = [plan(LoadConfig(seed=seed, candidates=5), run.histories, list(run.items)) for seed in (0, 0, 1)]
        assert plans[0] == plans[1] != plans[2]

    def test_users_come_back_as_in_the_log(self) -> None:
        # Each user of this log comes in sessions of ten visits, three seconds from one to the next.
        times = [session * 10_000 + visit * 3 for session in range(5) for visit in range(10)]
        histories = {str(user): request_of([0] * 50, times) for user in range(4000)}
        visits = plan(LoadConfig(rate=40.0, seconds=100.0, candidates=1, session_minutes=1.0), histories, ["an item"])
        last: dict[str, float] = {}
        gaps = []
        for visit in visits:
            if visit.user in last:
                gaps.append(visit.time - last[visit.user])
            last[visit.user] = visit.time
        assert len(gaps) / len(visits) == pytest.approx(0.9, abs=0.05)
        assert np.mean(np.isclose(gaps, 3.0)) > 0.85

    def test_what_cannot_be_planned_is_refused(self, run: ServedRun) -> None:
        with pytest.raises(ConfigurationError, match=r"load\.least_events is 100000"):
            plan(LoadConfig(least_events=100_000), run.histories, list(run.items))
        with pytest.raises(ConfigurationError, match=r"load\.candidates is 1000.*knows 40 items"):
            plan(LoadConfig(candidates=1000), run.histories, list(run.items))


class PatientTarget:
    """Answers nobody before all have asked."""

    def __init__(self, everyone: int) -> None:
        self.everyone = everyone
        self.asked = 0
        self.complete = asyncio.Event()

    async def hint(self, user: str, candidates: int) -> str:
        return user

    async def rank(self, user: str, items: Sequence[str], ticket: str | None) -> str:
        self.asked += 1
        if self.asked == self.everyone:
            self.complete.set()
        if user == "broken":
            raise DataError("no answer for this one")
        await asyncio.wait_for(self.complete.wait(), 30.0)
        return "full" if ticket is None else "relay"


class TestOpenLoop:
    def test_requests_do_not_wait_for_the_answers_before(self) -> None:
        visits = [Visit(0.01 * number, "someone", 0.02, ["an item"]) for number in range(40)]
        result = asyncio.run(run_load(PatientTarget(40), visits, LoadConfig(warm_up_seconds=0.0, rank_ms=0.0)))
        assert result.paths == {"relay": 40}
        assert result.summary()["kept"] == 0.0

    def test_time_is_counted_from_when_the_answer_was_due(self) -> None:
        visits = [Visit(0.0, "someone", 0.1, ["an item"]), Visit(0.3, "someone", 0.1, ["an item"])]
        result = asyncio.run(run_load(PatientTarget(2), visits, LoadConfig(warm_up_seconds=0.0)))
        # The first one waits for the second one, which is asked 0.3 seconds later.
        assert max(result.seconds) >= 0.3
        assert min(result.seconds) >= 0.0

    def test_failures_are_counted_and_stop_nothing(self) -> None:
        visits = [Visit(0.0, "broken" if number % 2 else "someone", 0.0, ["an item"]) for number in range(10)]
        result = asyncio.run(run_load(PatientTarget(10), visits, LoadConfig(warm_up_seconds=0.0)))
        assert result.offered == 10
        assert result.summary()["answered"] == 5
        assert result.failures == {"DataError: no answer for this one": 5}

    def test_the_warm_up_does_not_count(self) -> None:
        visits = [Visit(time, "someone", 0.0, ["an item"]) for time in (0.0, 0.01, 0.2)]
        result = asyncio.run(run_load(PatientTarget(3), visits, LoadConfig(warm_up_seconds=0.1, hints=False)))
        assert result.offered == len(result.seconds) == 1
        assert result.paths == {"full": 1}


def test_an_engine_answers_a_load(run_folder: Path) -> None:
    figures = measure_load(run_folder, LOAD | RELAY)
    assert figures["offered"] == figures["answered"] > 5
    assert figures["failures"] == {}
    assert figures["paths"]["relay"] > 0
    assert figures["engine"]["errors"] == 0


def test_a_service_answers_the_same_load(run_folder: Path, url: str) -> None:
    figures = measure_load(run_folder, LOAD, url)
    assert figures["offered"] == figures["answered"] > 5
    assert figures["failures"] == {}
    assert figures["paths"]["relay"] > 0


def test_a_connection_that_the_service_has_closed_is_opened_again() -> None:
    class ClosesEach(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer = b'{"path": "full"}'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            # Without a word, as a service does after some idle seconds.
            self.close_connection = True

        def log_message(self, format: str, *values: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), ClosesEach)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = HttpTarget(f"http://127.0.0.1:{server.server_port}", 1)

    async def ask() -> list[str]:
        found = []
        for _ in range(3):
            found.append(await target.rank("u", ["an item"], None))
            await asyncio.sleep(0.1)
        return found

    assert asyncio.run(ask()) == ["full"] * 3
    target.close()
    server.shutdown()
    server.server_close()


def test_without_hints_nothing_is_run_ahead(run_folder: Path) -> None:
    alone = {"load.hints": False, "relay.expander.enabled": False, "relay.fill_on_rank": False}
    figures = measure_load(run_folder, LOAD | RELAY | alone)
    assert figures["paths"] == {"full": 1.0}


def test_the_command_prints_and_writes_the_figures(run_folder: Path, url: str, tmp_path: Path) -> None:
    words = [f"{key}={json.dumps(value)}" for key, value in LOAD.items()]
    output = tmp_path / "load.json"
    result = CliRunner().invoke(commands, ["load", str(run_folder), "--url", url, "--output", str(output), *words])
    assert result.exit_code == 0, result.output
    assert "100.0% within the limit" in result.output
    assert json.loads(output.read_text())["answered"] > 5


@pytest.mark.parametrize(
    ("options", "url", "sentence"),
    [
        ({"load.rate": 0.0}, "", r"load\.rate is 0\.0"),
        ({"load.rat": 1.0}, "", r"load\.rate"),
        ({"relay.rank_budget_ms": 1.0}, "http://127.0.0.1:1", "no configuration key 'relay"),
        ({}, "https://somewhere", "no address of a service"),
    ],
)
def test_mistakes_are_told(run_folder: Path, options: dict[str, Any], url: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        measure_load(run_folder, {"load.candidates": 5, **options}, url)


def test_a_service_that_is_not_there_fails_each_request(run_folder: Path) -> None:
    figures = measure_load(run_folder, LOAD, "http://127.0.0.1:1")
    assert figures["answered"] == 0
    assert sum(figures["failures"].values()) == figures["offered"]
