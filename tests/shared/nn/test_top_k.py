"""Top-k selection equals brute force, whatever the shapes, ties, masks and candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError, DataError
from recascade.nn.top_k import top_k_inner_product, top_k_scores


def histories(rows: list[list[int]]) -> Context:
    lengths = torch.tensor([len(row) for row in rows])
    items = torch.tensor([item for row in rows for item in row], dtype=torch.int64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return Context(torch.arange(len(rows)), items, torch.zeros_like(items), offsets)


def brute_force(scores: Tensor, k: int, seen: list[list[int]] | None, candidates: list[int] | None) -> list[list[int]]:
    """Sort every row in Python by (score descending, index ascending)."""
    lists = []
    for row, values in enumerate(scores.tolist()):
        allowed = set(range(len(values))) if candidates is None else set(candidates)
        allowed -= set(seen[row]) if seen is not None else set()
        ranked = sorted((item for item in allowed if values[item] > -np.inf), key=lambda item: (-values[item], item))[
            :k
        ]
        lists.append(ranked + [-1] * (k - len(ranked)))
    return lists


def random_case(seed: int, rows: int, items: int, levels: int) -> tuple[Tensor, list[list[int]], list[int]]:
    generator = np.random.default_rng(seed)
    scores = torch.from_numpy(generator.integers(0, levels, (rows, items)).astype(np.float32) - levels / 2)
    seen = [generator.integers(0, items, generator.integers(0, 2 * items)).tolist() for _ in range(rows)]
    candidates = generator.integers(0, items, 1 + items // 3).tolist()
    return scores, seen, candidates


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 5),
    items=st.integers(1, 700),
    k=st.integers(1, 12),
    levels=st.sampled_from([1, 3, 1000]),
    use_seen=st.booleans(),
    use_candidates=st.booleans(),
)
def test_scores_equal_brute_force_with_ties(
    seed: int, rows: int, items: int, k: int, levels: int, use_seen: bool, use_candidates: bool
) -> None:
    scores, seen, candidates = random_case(seed, rows, items, levels)
    found = top_k_scores(
        scores,
        k,
        seen=histories(seen) if use_seen else None,
        candidates=torch.tensor(candidates) if use_candidates else None,
    )
    expected = brute_force(scores, k, seen if use_seen else None, candidates if use_candidates else None)
    assert found.items.tolist() == expected
    filled = found.items >= 0
    assert torch.equal(found.scores[filled], scores.gather(1, found.items.clamp(min=0))[filled])
    assert (found.scores[~filled] == -torch.inf).all()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 300),
    items=st.integers(1, 900),
    k=st.integers(1, 8),
    item_chunk=st.sampled_from([32, 96, 65536]),
    use_seen=st.booleans(),
    use_candidates=st.booleans(),
    use_bias=st.booleans(),
)
def test_inner_product_equals_scores(
    seed: int, rows: int, items: int, k: int, item_chunk: int, use_seen: bool, use_candidates: bool, use_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Small integers: every sum is exact in float32, so the order of summation cannot decide a tie.
    queries = torch.randint(-3, 4, (rows, 5), generator=generator).float()
    vectors = torch.randint(-3, 4, (items, 5), generator=generator).float()
    bias = torch.randint(-3, 4, (items,), generator=generator).float() if use_bias else None
    lengths = torch.randint(0, 6, (rows,), generator=generator).tolist()
    seen = histories([torch.randint(0, items, (length,), generator=generator).tolist() for length in lengths])
    candidates = torch.randint(0, items, (1 + items // 2,), generator=generator) if use_candidates else None
    scores = queries @ vectors.T + (0 if bias is None else bias)
    expected = top_k_scores(scores, k, seen=seen if use_seen else None, candidates=candidates)
    found = top_k_inner_product(
        queries, vectors, k, bias=bias, seen=seen if use_seen else None, candidates=candidates, item_chunk=item_chunk
    )
    assert torch.equal(found.items, expected.items)
    assert torch.equal(found.scores, expected.scores)


def test_real_valued_scores_agree_with_torch_over_many_tiles() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, vectors = torch.randn(150, 16, generator=generator), torch.randn(9001, 16, generator=generator)
    expected = (queries.double() @ vectors.double().T).topk(20)
    found = top_k_inner_product(queries, vectors, 20, item_chunk=4096)
    torch.testing.assert_close(found.scores.double(), expected.values, rtol=1e-5, atol=1e-5)
    assert (found.items == expected.indices).float().mean() > 0.999


def test_given_scores_stay_as_they_were() -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    before = scores.clone()
    top_k_scores(scores, 4, seen=histories([[1, 2], [], [49]]))
    assert torch.equal(scores, before)


def test_a_result_does_not_depend_on_the_batch() -> None:
    scores, seen, _ = random_case(3, 6, 400, 4)
    together = top_k_scores(scores, 9, seen=histories(seen)).items
    for row in range(6):
        alone = top_k_scores(scores[row : row + 1], 9, seen=histories(seen[row : row + 1])).items
        assert torch.equal(alone[0], together[row])


def test_zeros_of_both_signs_are_one_score() -> None:
    found = top_k_scores(torch.tensor([[0.0, -0.0, 0.0, -1.0]]), 3)
    assert found.items.tolist() == [[0, 1, 2]]


def test_not_a_number_stands_first_where_a_caller_can_see_it() -> None:
    scores = torch.zeros(1, 500)
    scores[0, 321] = torch.nan
    assert top_k_scores(scores, 2).scores[0, 0].isnan()


def test_no_requests_and_no_candidates() -> None:
    assert top_k_inner_product(torch.empty(0, 4), torch.randn(9, 4), 3).items.shape == (0, 3)
    nothing = torch.empty(0, dtype=torch.int64)
    assert top_k_scores(torch.randn(2, 9), 3, candidates=nothing).items.tolist() == [[-1] * 3] * 2


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="k is 0"):
        top_k_scores(torch.zeros(1, 3), 0)
    with pytest.raises(DataError, match="from 0 to 2"):
        top_k_scores(torch.zeros(1, 3), 1, candidates=torch.tensor([3]))
