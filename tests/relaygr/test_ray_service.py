"""The relay on a real Ray Serve on this machine: tickets are honoured, scores are the same, and losses are survived."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from http_service import answering

from recascade.errors import RecascadeError
from recascade.settings import compose_sections, flatten
from recascade_relaygr.engine.host import EngineHost
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.requests import Ticket
from recascade_relaygr.run_folder import ServedRun
from recascade_relaygr.serve import serve
from recascade_relaygr.serve_config import ServeConfig

# Ray's own modules warn of themselves.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'recascade-relaygr[ray]'")
    from recascade_relaygr.cluster.ray_engine import RayEngine
    from recascade_relaygr.cluster.ray_router import session_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray", "ignore:.*:DeprecationWarning:pydantic")

RELAY: RelayConfig = compose_sections(
    {"relay": RelayConfig},
    {
        "relay.rank_budget_ms": 1e4,
        "relay.join_slop_ms": 1e4,
        "relay.cache.page_tokens": 8,
        "relay.cache.window_ms": 1e4,
        "relay.cache.longest_window_ms": 1e4,
        "relay.executor.chunk_tokens": 32,
        "relay.trigger.enabled": False,
        "relay.trigger.stale_seconds": 1.0,
    },
)["relay"]
ITEMS = torch.arange(12)


@pytest.fixture(scope="module")
def host(run_folder: Path) -> Iterator[EngineHost[RayEngine]]:
    host = EngineHost(lambda: RayEngine(run_folder, ServeConfig(instances=2), RELAY))
    yield host
    host.close()


@pytest.fixture
def engine(host: EngineHost[RayEngine]) -> RayEngine:
    return host.engine


def long_users(run: ServedRun) -> list[str]:
    return sorted(run.histories, key=lambda user: -run.histories[user].items.numel())[:30]


async def relayed(engine: RayEngine, run: ServedRun, user: str, slack: float) -> tuple[Ticket, str, float]:
    """A hint and, after the slack, its ranking: the ticket, the answer's path, and the error of its scores."""
    ticket = engine.hint(user, run.histories[user], len(ITEMS))
    await asyncio.sleep(slack)
    answer = await engine.rank(user, run.histories[user], ITEMS, ticket)
    expected = run.model.score(run.histories[user].last(answer.events), ITEMS[None])[0]
    return ticket, answer.path, float((answer.scores - expected).abs().max())


def test_prefixes_are_run_ahead_where_their_requests_come(
    host: EngineHost[RayEngine], engine: RayEngine, run: ServedRun
) -> None:
    answers = [host.wait(relayed(engine, run, user, 0.1)) for user in long_users(run)]
    assert all(ticket.admitted for ticket, _, _ in answers)
    assert {ticket.owner for ticket, _, _ in answers} == set(engine.router.members)
    assert all(path in ("relay", "relay_joined") for _, path, _ in answers)
    assert max(error for _, _, error in answers) < 1e-5


def test_whatever_overtakes_what_the_scores_are_the_same(
    host: EngineHost[RayEngine], engine: RayEngine, run: ServedRun
) -> None:
    async def together() -> list[tuple[Ticket, str, float]]:
        return list(await asyncio.gather(*(relayed(engine, run, user, 0.0) for user in long_users(run))))

    assert max(error for _, _, error in host.wait(together())) < 1e-5


def test_a_session_goes_to_the_replica_that_it_names_and_else_along_the_ring(
    host: EngineHost[RayEngine], engine: RayEngine
) -> None:
    async def answered_by(owner: str, user: str) -> str:
        report = await engine.handle.options(session_id=session_of(owner, user)).report.remote()
        return str(report.name)

    substitutes = {}
    for user in ("a", "b", "c/d", "e" * 100):
        for owner in engine.router.members:
            assert host.wait(answered_by(owner, user)) == owner
        substitutes[user] = host.wait(answered_by("gone", user))
        assert substitutes[user] == host.wait(answered_by("", user)) == host.wait(answered_by("another", user))


def test_without_a_hint_requests_are_answered_too(
    host: EngineHost[RayEngine], engine: RayEngine, run: ServedRun
) -> None:
    user = long_users(run)[0]
    answer = host.wait(engine.rank(user, run.histories[user], ITEMS))
    expected = run.model.score(run.histories[user].last(answer.events), ITEMS[None])[0]
    assert torch.allclose(answer.scores, expected, atol=1e-5)


def test_statistics_are_those_of_all_replicas(host: EngineHost[RayEngine], engine: RayEngine, run: ServedRun) -> None:
    before = settled(engine)
    for user in long_users(run)[:5]:
        host.wait(relayed(engine, run, user, 0.0))
    assert settled(engine) == before + 5
    stats = engine.stats()
    assert stats["errors"] == 0
    assert 0 < stats["prefix_bytes"] <= stats["prefix_capacity_bytes"]
    assert sum(stats["shares"].values()) == pytest.approx(1.0)


def test_what_a_killed_replica_was_to_answer_is_answered_by_another_one(
    host: EngineHost[RayEngine], engine: RayEngine, run: ServedRun
) -> None:
    """Last, since it takes a replica away."""
    victim, survivor = engine.router.members

    async def killed_between(user: str) -> tuple[Ticket, float]:
        ticket = engine.hint(user, run.histories[user], len(ITEMS))
        if ticket.owner == victim:
            ray.kill(
                ray.get_actor(f"SERVE_REPLICA::{engine.application}#ranker#{victim}", namespace="serve"),
                no_restart=True,
            )
        answer = await engine.rank(user, run.histories[user], ITEMS, ticket)
        expected = run.model.score(run.histories[user].last(answer.events), ITEMS[None])[0]
        return ticket, float((answer.scores - expected).abs().max())

    user = next(user for user in long_users(run) if next(engine.router.ring.owners(user)) == victim)
    ticket, error = host.wait(killed_between(user))
    assert ticket.owner == victim
    assert error < 1e-5
    end = time.monotonic() + 60
    # The router forgets a replica with the first round of reports that lacks it.
    while victim in engine.router.members and time.monotonic() < end:
        time.sleep(0.05)
    assert victim not in engine.router.members
    assert survivor in engine.router.members
    assert host.wait(relayed(engine, run, user, 0.1))[2] < 1e-5


def test_the_http_service_asks_replicas(run_folder: Path, run: ServedRun, host: EngineHost[RayEngine]) -> None:
    user, names = long_users(run)[0], list(run.items)[:12]
    options = {f"relay.{key}": value for key, value in flatten(asdict(RELAY)).items()} | {"serve.engine": "ray"}
    with answering(serve(run_folder, options)) as ask:
        status, ticket = ask("POST", "/hint", {"user": user, "candidates": 12})
        assert status == 200 and ticket["admitted"] and ticket["owner"] not in host.engine.instances
        status, answer = ask("POST", "/rank", {"user": user, "items": names, "ticket": ticket["ticket"]})
        assert status == 200
        expected = run.model.score(run.histories[user].last(answer["events"]), ITEMS[None])[0]
        assert torch.allclose(torch.tensor(answer["scores"]), expected, atol=1e-5)
        assert ask("GET", "/health")[1]["instances"] == 1
        assert "recascade_relay_prefix_bytes" in ask("GET", "/metrics")[1]
    assert host.wait(relayed(host.engine, run, user, 0.1))[2] < 1e-5


def test_a_folder_without_a_run_is_refused(tmp_path: Path, host: EngineHost[RayEngine]) -> None:
    """Beside the running service, which it must leave alone."""
    with pytest.raises(RecascadeError, match="no finished run"):
        EngineHost(lambda: RayEngine(tmp_path, ServeConfig(), RELAY))
    assert host.engine.stats()["errors"] == 0


def settled(engine: RayEngine) -> int:
    """Answers of all replicas, once two reports in a row say the same; replicas are asked twice a second here."""
    known = -1
    while known != engine.stats()["answers"]:
        known = engine.stats()["answers"]
        time.sleep(1.5)
    return known
