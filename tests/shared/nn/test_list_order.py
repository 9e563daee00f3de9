from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade.nn.list_order import commit_greedily, order_by_scores


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 10_000))
def test_an_order_is_a_permutation_of_the_candidates(lengths: list[int], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (len(lengths), 6), generator=generator).float()
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    order = order_by_scores(scores, mask, count)
    for row, length in enumerate(lengths):
        filled = min(length, count)
        expected = sorted(range(length), key=lambda place: (-scores[row, place].item(), place))[:filled]
        assert order[row].tolist() == expected + [-1] * (count - filled)


def test_padding_comes_last_even_behind_minus_infinity() -> None:
    scores = torch.tensor([[-torch.inf, 1.0, 5.0, torch.nan]])
    mask = torch.tensor([[True, True, False, False]])
    assert order_by_scores(scores.nan_to_num(9.0, neginf=-torch.inf), mask, 4).tolist() == [[1, 0, -1, -1]]


def test_an_earlier_slot_takes_a_contested_candidate() -> None:
    logits = torch.tensor([[[0.0, 3.0, 1.0], [0.0, 5.0, 1.0], [2.0, 9.0, 9.0]]])
    assert commit_greedily(logits, torch.ones(1, 3, dtype=torch.bool)).tolist() == [[1, 2, 0]]
    assert commit_greedily(logits, torch.tensor([[True, False, True]])).tolist() == [[2, 0, -1]]


def test_equal_rows_of_logits_are_an_order_by_scores() -> None:
    scores = torch.randn(5, 7)
    mask = torch.arange(7) < torch.tensor([7, 1, 3, 0, 5])[:, None]
    committed = commit_greedily(scores[:, None].expand(-1, 7, -1), mask)
    assert torch.equal(committed, order_by_scores(scores, mask, 7))
