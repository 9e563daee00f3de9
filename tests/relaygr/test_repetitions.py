"""How often a candidate stands in a history, counted one request at a time and for many groups."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recascade_relaygr.ranker.repetitions import BUCKETS, buckets, repetitions, repetitions_in_groups

ITEMS = st.integers(-1, 5)


@given(history=st.lists(ITEMS, max_size=30), items=st.lists(ITEMS, min_size=1, max_size=8))
def test_counts_are_those_of_a_list(history: list[int], items: list[int]) -> None:
    found = repetitions(torch.tensor(history, dtype=torch.int64), torch.tensor(items))
    assert found.tolist() == [history.count(item) if item >= 0 else 0 for item in items]


@given(histories=st.lists(st.lists(ITEMS, min_size=6, max_size=6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_groups_count_what_they_see(histories: list[list[int]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    seen = torch.randint(0, 7, (len(histories), 3), generator=generator)
    items = torch.randint(-1, 6, (len(histories), 3, 4), generator=generator)
    found = repetitions_in_groups(torch.tensor(histories), items, torch.arange(6) < seen[..., None])
    for row, history in enumerate(histories):
        for place in range(3):
            prefix = torch.tensor(history[: int(seen[row, place])], dtype=torch.int64)
            assert torch.equal(found[row, place], repetitions(prefix, items[row, place]))


def test_more_never_falls_into_an_earlier_bucket() -> None:
    found = buckets(torch.arange(10_000))
    assert bool((found.diff() >= 0).all())
    assert (found[0], found[1], found[-1]) == (0, 2, BUCKETS - 1)
