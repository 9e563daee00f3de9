"""The ranker: on a prefix that was run ahead it says what it says in full; designs for which that fails are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.ranker import PrefixRanker
from recascade_relaygr.engine.history import RankInput, cut
from recascade_relaygr.ranker.candidate_groups import CandidateGroups
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.ranker.safety import PrefixUnsafeError, check_prefix_safety, prefix_error

ITEMS = 300


def ranker(seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64, **settings: int) -> HSTURanker:
    torch.manual_seed(seed)
    made = HSTURanker(ITEMS, **({"dimension": 16, "max_length": 4300} | settings)).to(dtype).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for layer in made.layers:
            layer.position_bias.normal_(0, 0.3)
            layer.time_bias.normal_(0, 0.3)
        if made.repetitions is not None:
            made.repetitions.normal_(0, 0.3)
        for parameter in made.parameters():
            parameter.mul_(scale)
    return made


def request(events: int, seed: int = 0, requests: int = 1) -> Context:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([max(events - 7 * number, 0) for number in range(requests)])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    total = int(offsets[-1])
    times = torch.cat([torch.randint(1, 90_000, (int(n),), generator=generator).cumsum(0) for n in lengths])
    return Context(
        torch.zeros(requests, dtype=torch.int64),
        torch.randint(ITEMS, (total,), generator=generator),
        times,
        offsets,
        torch.full((requests,), 10**9),
    )


def candidates(count: int, requests: int = 1, seed: int = 1) -> Tensor:
    return torch.randint(ITEMS, (requests, count), generator=torch.Generator().manual_seed(seed))


def first(history: Context, events: int) -> Context:
    return RankInput(history, 0).first(events)


@settings(max_examples=30)
@given(
    prefix=st.one_of(st.integers(0, 600), st.sampled_from([1, 127, 128, 129, 4096])),
    recent=st.integers(0, 128),
    count=st.one_of(st.integers(1, 40), st.just(512)),
    pieces=st.lists(st.integers(1, 300), max_size=5),
    seed=st.integers(0, 4),
    scale=st.sampled_from([1.0, 3.0]),
)
def test_ranking_on_a_prefix_equals_full_inference(
    prefix: int, recent: int, count: int, pieces: list[int], seed: int, scale: float
) -> None:
    model = ranker(seed, scale)
    history, items = request(prefix + recent, seed), candidates(count)
    states: list[Tensor] = []
    done = 0
    for length in [*pieces, prefix]:
        end = min(done + length, prefix)
        if end > done:
            states.append(model.prefill(first(history, end), states))
        done = max(done, end)
    expected = model.score((history), items)
    assert torch.allclose(model.score_on(states, history, items), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_in_single_precision_the_difference_stays_below_the_bound(seed: int) -> None:
    model = ranker(seed, dtype=torch.float32)
    history, items = request(2112, seed), candidates(128)
    states = [model.prefill(first(history, 2048))]
    difference = (model.score_on(states, history, items) - model.score(history, items)).abs().max()
    assert float(difference) < 1e-5


def test_requests_do_not_see_each_other() -> None:
    model = ranker()
    together, items = request(150, requests=4), candidates(20, requests=4)
    scores = model.score(together, items)
    for row in range(4):
        alone = model.score(together.between(row, row + 1), items[row : row + 1])
        assert torch.allclose(scores[row], alone[0], rtol=0, atol=1e-10)


def test_candidates_do_not_see_each_other_and_all_of_the_history_matters() -> None:
    model = ranker()
    history, items = request(70), candidates(30)
    scores = model.score(history, items)
    order = torch.randperm(30)
    assert torch.allclose(model.score(history, items[:, order])[0], scores[0, order], atol=1e-12)
    assert torch.allclose(model.score(history, items[:, :1]), scores[:, :1], atol=1e-12)
    for place in (0, 35, 69):
        changed = history.items.clone()
        changed[place] = (changed[place] + 1) % ITEMS
        other = Context(history.users, changed, history.timestamps, history.offsets, history.now)
        assert not torch.allclose(model.score(other, items), scores, atol=1e-9)


def test_training_scores_a_place_of_a_history_as_serving_scores_the_history_up_to_it() -> None:
    model = ranker()
    history, items = request(90), candidates(12)
    seen = torch.tensor([[1, 40, 90]])
    times = history.timestamps[-1] + torch.tensor([[10, 1000, 100_000]])
    groups = CandidateGroups(seen, times, items[:, None].expand(1, 3, 12))
    with torch.no_grad():
        found = model.logits(history, groups)
    for place in range(3):
        upto = first(history, int(seen[0, place]))
        expected = model.score(
            Context(upto.users, upto.items, upto.timestamps, upto.offsets, times[0, place][None]), items
        )
        assert torch.allclose(found[0, place], expected[0], rtol=0, atol=1e-10)


def test_an_item_that_training_never_saw_has_a_score() -> None:
    model = ranker()
    unknown = model.score(request(10), torch.tensor([[-1, 3]]))
    assert torch.isfinite(unknown).all() and unknown[0, 0] != unknown[0, 1]


def test_an_empty_history_is_ranked() -> None:
    scores = ranker().score(request(0), candidates(5))
    assert torch.isfinite(scores).all() and float(scores.std()) > 0


def test_the_trained_kind_of_ranker_is_safe() -> None:
    assert check_prefix_safety(ranker(dtype=torch.float32), ITEMS) < 1e-5
    assert isinstance(ranker(), PrefixRanker)


class RunningNormaliser(HSTURanker):
    """Divides attention by the events read in this call."""

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        for layer in self.layers:
            layer.normaliser = float(max(history.items.numel(), 1))
        return super().prefill(history, states)


class SeesWholeHistory(HSTURanker):
    """Each event's embedding is moved by all events of the same call: bidirectional attention in its simplest form."""

    def _events(self, items: Tensor) -> Tensor:
        events = super()._events(items)
        return events + 0.1 * events.mean(0)


class ContextTokens(HSTURanker):
    """The first four events also see the last event of the call, as tokens of a context that see the whole history."""

    def _events(self, items: Tensor) -> Tensor:
        events = super()._events(items).clone()
        events[:4] += 0.1 * events[-1:]
        return events


class CountsFromTheNewest(HSTURanker):
    """Positions count back from the newest event of the call."""

    def _events(self, items: Tensor) -> Tensor:
        events = super()._events(items)
        ages = torch.arange(len(events) - 1, -1, -1, device=items.device)[:, None]
        return events + 0.1 * torch.sin(ages.to(events.dtype) + torch.arange(events.shape[1]))


class KnowsTheTime(HSTURanker):
    """Each event's embedding is moved by the day of the query."""

    day = 0.0

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        assert history.now is not None
        self.day = float(history.now) / 86_400
        return super().prefill(history, states)

    def _events(self, items: Tensor) -> Tensor:
        events = super()._events(items)
        return events + 0.1 * torch.sin(self.day + torch.arange(events.shape[1]))


class HalfPrecisionStates(HSTURanker):
    """Keeps states in half the bytes."""

    kept: torch.dtype = torch.bfloat16

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        return super().prefill(history, states).to(self.kept).to(self.item_embedding.dtype)


class StaleStates(HSTURanker):
    """Runs the prefix of yesterday."""

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        if not states:
            moved = history.items.roll(1)
            history = Context(history.users, moved, history.timestamps, history.offsets, history.now)
        return super().prefill(history, states)

    def score(self, context: Context, items: Tensor) -> Tensor:
        return HSTURanker.score_on(self, [HSTURanker.prefill(self, context)], context, items)


@pytest.mark.parametrize(
    "kind",
    [
        RunningNormaliser,
        SeesWholeHistory,
        ContextTokens,
        CountsFromTheNewest,
        KnowsTheTime,
        HalfPrecisionStates,
        StaleStates,
    ],
)
def test_unsafe_designs_are_refused_with_the_measured_error(kind: type[HSTURanker]) -> None:
    torch.manual_seed(0)
    unsafe = kind(ITEMS, dimension=16, max_length=512, initial_deviation=0.3).eval()
    error = prefix_error(unsafe, ITEMS)
    assert error > 1e-5
    with pytest.raises(PrefixUnsafeError, match=f"up to {error:.2g}"):
        check_prefix_safety(unsafe, ITEMS)


def test_states_of_half_the_bytes_pass_with_a_tolerance_of_their_own() -> None:
    torch.manual_seed(0)
    half = HalfPrecisionStates(ITEMS, dimension=16, max_length=512, initial_deviation=0.3).eval()
    assert check_prefix_safety(half, ITEMS, tolerance=1e-2) <= 1e-2


def test_scores_that_are_no_numbers_are_unsafe() -> None:
    broken = ranker(dtype=torch.float32)
    with torch.no_grad():
        broken.item_embedding.fill_(torch.nan)
    with pytest.raises(PrefixUnsafeError, match="up to inf"):
        check_prefix_safety(broken, ITEMS)


@given(st.integers(0, 5000), st.sampled_from([64, 100, 512, 1024]), st.sampled_from([16, 64]))
def test_a_growing_history_changes_its_prefix_only_in_blocks(events: int, most: int, block: int) -> None:
    start, prefix = cut(events, most, block)
    kept = events - start
    assert 0 <= kept <= most and 0 <= kept - prefix < block and prefix % block == 0 and start % block == 0
    assert kept >= min(events, most - max(most // (8 * block), 1) * block)


def test_few_of_a_thousand_new_events_change_the_prefix() -> None:
    cuts = [cut(events, 1024, 64) for events in range(2000, 3000)]
    assert len(set(cuts)) <= 1000 // 64 + 1000 // 128 + 2
