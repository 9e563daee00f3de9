"""What enters regenerated rows: order, collapsed runs, origins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recascade_taesar.controls import random_successors, with_shifted
from recascade_taesar.rows import INSERTED, ORIGINAL, REPLACED, Candidates, regenerated_rows

Row = list[tuple[int, int]]
ROWS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([ORIGINAL, REPLACED])), max_size=8), max_size=5)


def candidates(rows: list[Row]) -> Candidates:
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows]).astype(np.int64)
    events = [event for row in rows for event in row]
    items = np.array([item for item, _ in events], dtype=np.int64)
    return Candidates(
        users,
        items,
        np.arange(len(items), dtype=np.int64),
        np.array([origin for _, origin in events], dtype=np.int8),
        np.full(len(items), -1, dtype=np.int64),
        np.full(len(items), np.nan, dtype=np.float32),
    )


def as_rows(made: Candidates, users: int) -> list[Row]:
    return [
        [
            (int(i), int(o))
            for i, o in zip(made.items[made.users == user], made.origins[made.users == user], strict=True)
        ]
        for user in range(users)
    ]


def collapsed(items: list[int]) -> list[int]:
    return [item for place, item in enumerate(items) if place == 0 or item != items[place - 1]]


@given(rows=ROWS)
def test_rows_are_the_events_in_order_without_consecutive_repeats(rows: list[Row]) -> None:
    made = as_rows(regenerated_rows(candidates(rows), drop_unchanged=False, shortest=0), len(rows))
    assert [[item for item, _ in row] for row in made] == [collapsed([item for item, _ in row]) for row in rows]


@given(rows=ROWS)
def test_original_items_keep_their_order(rows: list[Row]) -> None:
    made = as_rows(regenerated_rows(candidates(rows), drop_unchanged=False, shortest=0), len(rows))
    for row, regenerated in zip(rows, made, strict=True):
        before = [item for item, origin in row if origin == ORIGINAL]
        after = [item for item, origin in regenerated if origin == ORIGINAL]
        assert collapsed(after) == collapsed(before)


@given(rows=ROWS)
def test_short_rows_and_rows_that_say_nothing_new_are_left_out(rows: list[Row]) -> None:
    made = as_rows(regenerated_rows(candidates(rows), drop_unchanged=True, shortest=2), len(rows))
    for row, regenerated in zip(rows, made, strict=True):
        items = collapsed([item for item, _ in row])
        unchanged = items == [item for item, origin in row if origin == ORIGINAL]
        assert [item for item, _ in regenerated] == ([] if unchanged or len(items) < 2 else items)


def test_of_a_run_the_original_stays() -> None:
    rows: list[Row] = [[(1, REPLACED), (1, ORIGINAL), (2, REPLACED), (2, REPLACED)]]
    made = regenerated_rows(candidates(rows), drop_unchanged=False, shortest=1)
    assert as_rows(made, 1) == [[(1, ORIGINAL), (2, REPLACED)]]
    assert made.timestamps.tolist() == [1, 2]


def test_random_successors_followed_the_last_item_of_the_domain_somewhere() -> None:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(50), 10)
    own = np.where(random.random(500) < 0.5, random.integers(0, 5, 500), -1)
    places = np.flatnonzero(own < 0)
    found = random_successors(users, own, places, 1.0, random)
    pairs = set()
    for user in range(50):
        items = own[(users == user) & (own >= 0)]
        pairs |= set(zip(items[:-1].tolist(), items[1:].tolist(), strict=True))
    filled = np.flatnonzero(found >= 0)
    assert len(filled) > 100
    for event in filled:
        before = [own[e] for e in range(event) if users[e] == users[event] and own[e] >= 0]
        assert (before[-1], found[event]) in pairs


def test_shifted_items_have_the_next_number_in_the_domain() -> None:
    rows: list[Row] = [[(4, ORIGINAL), (7, ORIGINAL)], [(1, ORIGINAL)]]
    made = as_rows(with_shifted(candidates(rows), np.array([4, 1, 7]), 1.0, np.random.default_rng(0)), 2)
    assert made == [[(4, ORIGINAL), (1, INSERTED), (7, ORIGINAL)], [(1, ORIGINAL), (7, INSERTED)]]
