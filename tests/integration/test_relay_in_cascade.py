"""RelayGR's engine as the ranker of a cascade: hinted or not, it scores as the ranker does."""

from __future__ import annotations

from collections.abc import Iterator

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
    made = find_method("relaygr").live_ranker(ranker, ITEMS)
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
