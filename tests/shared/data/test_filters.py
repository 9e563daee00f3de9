from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.filters import apply_filters, core, deduplicate, k_core, ordered_only, time_window, write_filtered
from recascade.data.split_config import SplitConfig
from recascade.errors import DataError

EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)
NOWHERE = Path("not used by a log that fits the memory")
COLUMNS = ["user_id", "item_id", "timestamp"]


def lazy(rows: list[tuple[str, str, int | None]]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=dict(zip(COLUMNS, (pl.String, pl.String, pl.Int64), strict=True)), orient="row")


def core_by_definition(edges: list[tuple[int, int]], users: int, items: int) -> list[tuple[int, int]]:
    while True:
        kept = [
            (user, item)
            for user, item in edges
            if sum(other == user for other, _ in edges) >= users and sum(other == item for _, other in edges) >= items
        ]
        if len(kept) == len(edges):
            return kept
        edges = kept


@given(EDGES, st.integers(0, 4), st.integers(0, 4))
def test_core_is_the_largest_subset_without_small_nodes(edges, users, items) -> None:
    rows = [(f"u{user}", f"i{item}", place) for place, (user, item) in enumerate(edges)]
    with tempfile.TemporaryDirectory() as scratch:
        kept = k_core(lazy(rows), users, items, Path(scratch)).collect().select("user_id", "item_id").rows()
    assert kept == [(f"u{user}", f"i{item}") for user, item in core_by_definition(edges, users, items)]


def test_removal_cascades_to_the_end() -> None:
    # A path falls apart from its end, one node after the other.
    users = np.array([0, 0, 1, 1, 2, 2, 3])
    items = np.array([0, 1, 1, 2, 2, 3, 3])
    kept_users, kept_items = core(users, items, 2, 2)
    assert not kept_users.any()
    assert not kept_items.any()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 3)), max_size=20))
def test_deduplication(rows) -> None:
    exact = deduplicate(lazy(rows), "exact", NOWHERE).collect().rows()
    assert exact == list(dict.fromkeys(rows))
    for rule, best in (("first", min), ("last", max)):
        kept = deduplicate(lazy(rows), rule, NOWHERE).collect().rows()
        times: dict[tuple[str, str], list[int]] = {}
        for user, item, time in rows:
            times.setdefault((user, item), []).append(time)
        assert sorted(kept) == sorted((*pair, best(values)) for pair, values in times.items())
    assert deduplicate(lazy(rows), "none", NOWHERE).collect().rows() == rows


def test_repeats_of_unknown_time_are_no_duplicates() -> None:
    rows = [("a", "x", None, 1), ("a", "x", 5, 2), ("a", "x", None, 3), ("a", "x", 5, 4), ("a", "y", 5, 5)]
    events = pl.LazyFrame(rows, schema=["user_id", "item_id", "timestamp", "position"], orient="row")
    assert deduplicate(events, "exact", NOWHERE).collect()["position"].to_list() == [1, 2, 3, 5]
    untimed = events.drop("timestamp")
    assert deduplicate(untimed, "exact", NOWHERE).collect()["position"].to_list() == [1, 2, 3, 4, 5]
    assert deduplicate(untimed, "last", NOWHERE).collect()["position"].to_list() == [4, 5]


def test_the_time_window_is_half_open_and_drops_unknown_times() -> None:
    rows = [("a", "x", time) for time in (1, 2, 3, None)]
    assert time_window(lazy(rows), 2, 3).collect()["timestamp"].to_list() == [2]
    assert time_window(lazy(rows), None, None).collect()["timestamp"].to_list() == [1, 2, 3, None]


def test_events_without_a_place_in_the_order_are_dropped() -> None:
    rows = [("a", "x", 1), ("a", "y", None)]
    assert ordered_only(lazy(rows)).collect()["item_id"].to_list() == ["x"]
    positions = lazy(rows).with_columns(position=pl.Series([None, 0], dtype=pl.Int32))
    assert ordered_only(positions).collect()["item_id"].to_list() == ["y"]


def test_counts_add_up(tmp_path: Path) -> None:
    rows = [("a", "x", 1), ("a", "x", 1), ("a", "y", 2), ("b", "x", 9), ("b", "y", None), ("c", "z", 2)]
    config = SplitConfig(until="5", deduplicate="exact", user_min_events=2)
    kept, counts = apply_filters(lazy(rows), config, tmp_path)
    assert counts == {
        "read": 6,
        "dropped_without_order": 1,
        "dropped_by_time": 1,
        "dropped_duplicates": 1,
        "dropped_by_core": 1,
        "kept": 2,
    }
    assert kept.collect()["item_id"].to_list() == ["x", "y"]


def test_a_filtered_data_set_keeps_what_still_has_events(write_log, tmp_path: Path) -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "y", 4), ("c", "z", 5)]
    items = pl.DataFrame({"item_id": ["z", "y", "x", "unsold"], "brand": ["p", "q", "r", "s"]})
    users = pl.DataFrame({"user_id": ["a", "b", "c"]})
    config = SplitConfig(user_min_events=2, item_min_events=2)
    filtered = write_filtered(write_log(rows, items=items, users=users), config, tmp_path / "core")
    assert filtered.interactions().collect().rows() == rows[:4]
    assert filtered.items().collect()["item_id"].to_list() == ["y", "x"]
    assert filtered.users().collect()["user_id"].to_list() == ["a", "b"]
    assert filtered.facts["counts"]["dropped_by_core"] == 1
    assert filtered.facts["filters"] == {"user_min_events": 2, "item_min_events": 2}


def test_nothing_left_is_said_with_the_step_that_took_it(write_log, tmp_path: Path) -> None:
    data = write_log([("a", "x", 1)])
    with pytest.raises(DataError, match=r"'written' is left after filtering \(1 read, dropped by core 1\)"):
        write_filtered(data, SplitConfig(user_min_events=5), tmp_path / "core")
    assert not (tmp_path / "core").exists()
