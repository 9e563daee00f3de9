from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recascade.nn.block_selection import LOW_BITS, decode_scores
from recascade.nn.streamed_best import streamed_best
from recascade.nn.top_k import top_k_inner_product

NONE = torch.empty(0, dtype=torch.int64)


def by_sorting(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, places = torch.sort(scores, dim=1, descending=True, stable=True)
    return places[:, :k], values[:, :k]


def decoded(keys: Tensor) -> tuple[Tensor, Tensor]:
    return LOW_BITS - (keys & LOW_BITS), decode_scores(keys)


@settings(max_examples=80)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 9),
    items=st.integers(1, 700),
    k=st.integers(1, 40),
    biased=st.booleans(),
    order=st.sampled_from(["random", "rising", "falling", "equal"]),
)
def test_equals_a_stable_sort_of_all_scores(seed: int, rows: int, items: int, k: int, biased: bool, order: str) -> None:
    random = torch.Generator().manual_seed(seed)
    # Small whole numbers: exact in any order of summation, and full of ties.
    queries = torch.randint(-2, 3, (rows, 3), generator=random).float()
    vectors = torch.randint(-2, 3, (items, 3), generator=random).float()
    if order == "equal":
        vectors = torch.ones(items, 3)
    elif order != "random":
        queries = torch.ones(rows, 3)
        vectors = vectors[vectors.sum(1).argsort(descending=order == "falling")]
    bias = torch.randint(-1, 2, (items,), generator=random).float() if biased else None
    seen = torch.unique(torch.randint(rows * items, (items // 2,), generator=random))
    scores = queries @ vectors.t() + (0 if bias is None else bias)
    scores.view(-1)[seen] = -torch.inf
    found = streamed_best(queries, vectors, bias, seen // items, seen % items, k, width=64)
    places, values = decoded(found)
    expected_places, expected_values = by_sorting(scores, k)
    assert torch.equal(places, expected_places)
    assert torch.equal(values, expected_values)


def test_real_valued_scores_over_many_tiles() -> None:
    torch.manual_seed(0)
    queries, vectors = torch.randn(7, 16), torch.randn(20_000, 16)
    places, values = decoded(streamed_best(queries, vectors, None, NONE, NONE, 20, width=256))
    expected_places, expected_values = by_sorting(queries @ vectors.t(), 20)
    torch.testing.assert_close(values, expected_values)
    assert (places == expected_places).float().mean() > 0.99


@pytest.mark.parametrize("place", [3, 999])
def test_a_score_that_is_not_a_number_stands_first_wherever_it_comes(place: int) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(1000, 4)
    vectors[place] = torch.nan
    places, _ = decoded(streamed_best(torch.randn(2, 4), vectors, None, NONE, NONE, 5, width=64))
    assert places[:, 0].tolist() == [place, place]


def test_large_catalogues_give_what_small_batches_give() -> None:
    torch.manual_seed(0)
    queries, vectors = torch.randn(130, 4), torch.randn(70_000, 4)
    found = top_k_inner_product(queries, vectors, 10)
    for start in (0, 100):
        some = top_k_inner_product(queries[start : start + 30], vectors, 10)
        torch.testing.assert_close(found.scores[start : start + 30], some.scores)
