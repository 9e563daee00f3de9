from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.ties import order_events

EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("uvwxyz"), st.integers(0, 4)), min_size=1, max_size=40
)


def frame(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def items(events: pl.DataFrame) -> list[str]:
    return events["item_id"].to_list()


@given(EVENTS, st.sampled_from(["shuffle", "group"]), st.randoms())
def test_the_order_of_the_file_does_not_matter_unless_asked_for(rows, ties, random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert order_events(frame(rows), ties, 0).equals(order_events(frame(shuffled), ties, 0))


@given(EVENTS, st.sampled_from(["shuffle", "group", "file"]), st.integers(0, 3))
def test_only_events_of_one_time_change_places(rows, ties, seed) -> None:
    events = order_events(frame(rows), ties, seed)
    assert sorted(events.select("user_id", "item_id", "timestamp").rows()) == sorted(rows)
    by_time = events.select("user_id", "timestamp").rows()
    assert by_time == sorted(by_time)
    for _, user in events.group_by("user_id"):
        assert user["position"].to_list() == list(range(len(user)))
        distinct_times = user["timestamp"].rank("dense").to_list()
        assert user["run"].to_list() == [rank - 1 for rank in distinct_times]
        expected = user["run"] if ties == "group" else user["position"]
        assert user["group"].to_list() == expected.to_list()


@given(EVENTS, EVENTS)
def test_other_events_never_change_the_order_of_two(rows, others) -> None:
    unique = list(dict.fromkeys(rows))
    more = list(dict.fromkeys([*rows, *others]))
    alone = order_events(frame(unique), "shuffle", 5).select("user_id", "item_id", "timestamp").rows()
    together = order_events(frame(more), "shuffle", 5).select("user_id", "item_id", "timestamp").rows()
    assert [row for row in together if row in set(unique)] == alone


def test_file_keeps_the_order_of_rows_inside_a_tie() -> None:
    events = frame([("a", "late", 2), ("a", "z", 1), ("a", "m", 1), ("a", "c", 1)])
    assert items(order_events(events, "file", 0)) == ["z", "m", "c", "late"]


def test_positions_decide_where_there_are_any() -> None:
    events = frame([("a", "second", 1), ("a", "first", 1), ("a", "third", 1)]).with_columns(
        position=pl.Series([5, 2, 9])
    )
    ordered = order_events(events, "file", 0)
    assert items(ordered) == ["first", "second", "third"]
    assert ordered["position"].to_list() == [0, 1, 2]


def test_shuffle_is_random_and_depends_on_seed_and_user() -> None:
    count = 400
    rows = [(user, f"i{number:03d}", 7) for user in ("a", "b") for number in range(count)]
    orders = {}
    for seed in (0, 1):
        ordered = items(order_events(frame(rows), "shuffle", seed))
        orders[seed, "a"], orders[seed, "b"] = ordered[:count], ordered[count:]
    assert len({tuple(order) for order in orders.values()}) == 4
    for order in orders.values():
        ascending = sum(first < second for first, second in pairwise(order)) / (count - 1)
        assert 0.4 < ascending < 0.6


def test_the_seed_does_not_change_a_set() -> None:
    rows = [("a", item, 7) for item in "pqrstu"]
    assert order_events(frame(rows), "group", 0).equals(order_events(frame(rows), "group", 1))


@pytest.mark.parametrize("ties", ["shuffle", "group", "file"])
def test_unknown_times_are_no_ties(ties: str) -> None:
    events = frame([("a", "x", None), ("a", "y", None), ("a", "z", None)]).with_columns(
        pl.col("timestamp").cast(pl.Int64), position=pl.Series([2, 1, 0])
    )
    ordered = order_events(events, ties, 0)
    assert items(ordered) == ["z", "y", "x"]
    assert ordered["group"].to_list() == [0, 1, 2]


def test_events_without_a_time_column_follow_their_positions() -> None:
    events = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["x", "y"], "position": [1, 0]})
    assert order_events(events, "shuffle", 0).select("item_id", "timestamp").rows() == [("y", None), ("x", None)]
