"""RelayGR's engine as the ranker of a cascade: hinted or not, it scores as the ranker does."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recascade.bench.registry import find_method, installed_methods
from recascade.contracts.context import Context
from recascade.contracts.hinted_ranker import HintedRanker
from recascade.contracts.ranker import Ranker

pytestmark = pytest.mark.skipif("relaygr" not in installed_methods(), reason="recascade-relaygr is not installed")

ITEMS = 60


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    from recascade_relaygr.ranker.hstu_ranker import HSTURanker

    torch.manual_seed(0)
    return HSTURanker(ITEMS, dimension=8, blocks=2, heads=2, max_length=256).eval()


@pytest.fixture(scope="module")
def live(ranker: Ranker) -> Iterator[HintedRanker]:
    made = find_method("relaygr").live_ranker(ranker, ITEMS, 0.03)
    yield made
    made.close()


def history(events: int) -> Context:
    items = torch.arange(events) * 7 % ITEMS
    times = 1_000_000 + torch.arange(events) * 60
    return Context(torch.tensor([3]), items, times, torch.tensor([0, events]), torch.tensor([1_000_000 + 60 * events]))


@pytest.mark.parametrize("events", [0, 1, 63, 200, 256])
@pytest.mark.parametrize("hinted", [False, True])
def test_a_hint_changes_no_score(ranker: Ranker, live: HintedRanker, events: int, hinted: bool) -> None:
    context, items = history(events), torch.tensor([[5, 0, -1, 59, 17]])
    ticket = live.hint(f"user-{events}", context, 5) if hinted else None
    # A budget that no machine exceeds: under time pressure the engine may read the newest events only, and says so.
    scored = live.rank(f"user-{events}", context, items, ticket, budget=60.0)
    assert scored.whole
    torch.testing.assert_close(scored.scores, ranker.score(context, items), rtol=1e-4, atol=1e-4)


def test_the_relay_works_with_the_budget_of_its_stage(live: HintedRanker) -> None:
    from recascade_relaygr.live_ranker import LiveRanker

    assert isinstance(live, LiveRanker)
    assert live.host.engine.config.rank_budget_ms == pytest.approx(30.0)


def test_stages_are_told_the_seconds_that_the_ranker_may_take() -> None:
    from recascade.cascade.serve import stages_of

    told: list[Any] = []

    def live_ranker(*arguments: Any) -> str:
        told.extend(arguments)
        return "live"

    member = SimpleNamespace(slot="ranker", method=SimpleNamespace(live="x", live_ranker=live_ranker))
    cascade = SimpleNamespace(retriever=None, ranker="fitted", reranking=None, retrieved=5, ranker_weight=1.0)
    stages = [SimpleNamespace(slot="ranker", label="relaygr", version="0")]
    opened: Any = SimpleNamespace(
        data=SimpleNamespace(test=[], items=range(ITEMS)),
        fitted=SimpleNamespace(
            cascade=cascade, stages=[SimpleNamespace(slot="retriever", label="", version=""), *stages]
        ),
        config=SimpleNamespace(model=SimpleNamespace(members=[member])),
    )
    stages_of(opened, 0.03)
    assert told == ["fitted", ITEMS, 0.03]
