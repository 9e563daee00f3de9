from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_from_impressions import lists_from_impressions
from recascade.errors import DataError

CONFIG = ListsConfig(candidates=4, request=["request_id"], place="slot", clicked_only=False)


def impressions(requests: int = 60, seed: int = 0) -> pl.DataFrame:
    """Three items shown per request, to six users, one request an hour."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "request_id": f"r{request:03}",
            "user_id": f"u{request % 6}",
            "user_town": f"t{request % 3}",
            "timestamp": request * 3600 + slot,
            "slot": 3 - slot,
            "item_id": f"i{item}",
            "click": int(random.random() < 0.4),
        }
        for request in range(requests)
        for slot, item in enumerate(random.permutation(12)[:3])
    ]
    return pl.DataFrame(rows)


def test_a_request_is_a_list_in_the_order_of_its_places() -> None:
    table = impressions()
    lists = lists_from_impressions(table, None, CONFIG)
    assert len(lists) == 60 and set(lists.lengths.tolist()) == {3}
    expected = table.sort("request_id", "slot")
    assert lists.labels.tolist() == expected["click"].to_list()
    assert np.isnan(lists.scores).all()


def test_parts_follow_time_and_ids_are_those_of_training() -> None:
    table = impressions().with_columns(
        item_id=pl.when(pl.int_range(pl.len()) == 178).then(pl.lit("new")).otherwise("item_id")
    )
    lists = lists_from_impressions(table, None, CONFIG)
    ends = [lists.times[lists.rows(part)] for part in ("train", "validation", "test")]
    assert ends[0].max() < ends[1].min() and ends[1].max() < ends[2].min()
    assert len(lists.inputs.item_fields) == 12
    assert (lists.items == -1).any() and (lists.items[: lists.offsets[40]] >= 0).all()


def test_a_history_are_the_users_clicks_before_the_list() -> None:
    table = impressions()
    lists = lists_from_impressions(table, None, CONFIG)
    batch = lists.batch(np.arange(60))
    for row in range(60):
        before = table.filter((pl.col("user_id") == f"u{row % 6}") & (pl.col("timestamp") < row * 3600))
        assert int(batch.history_mask[row].sum()) == before["click"].sum()


def test_without_user_ids_the_profile_is_the_user_and_nobody_has_a_history() -> None:
    lists = lists_from_impressions(impressions().drop("user_id"), None, CONFIG)
    assert lists.schema.profile_sizes == (4,)
    assert set(lists.batch(np.arange(6)).profile[:, 0].tolist()) == {1, 2, 3}
    assert (lists.history_lengths == 0).all()


def test_a_pause_or_too_many_items_end_a_list() -> None:
    table = impressions(2).with_columns(request_id=pl.lit("one"), item_id=pl.Series([f"i{k}" for k in range(6)]))
    config = replace(CONFIG, place="", candidates=2)
    fractions = {"validation_fraction": 0.34, "test_fraction": 0.34}
    lists = lists_from_impressions(table, None, config, **fractions)
    assert lists.lengths.tolist() == [2, 1, 2, 1]
    assert lists_from_impressions(table, None, replace(config, gap=0), **fractions).lengths.tolist() == [2, 2, 2]


def test_a_long_request_is_cut_in_the_order_of_its_places() -> None:
    slots = [3, 0, 2, 1]
    table = pl.DataFrame(
        {
            "request_id": [f"r{request}" for request in range(6) for _ in slots],
            "timestamp": [request * 3600 for request in range(6) for _ in slots],
            "slot": slots * 6,
            "item_id": [f"i{slot}" for slot in slots] * 6,
            "click": [int(slot in (0, 3)) for slot in slots] * 6,
        }
    )
    config = replace(CONFIG, candidates=2)
    lists = lists_from_impressions(table, None, config, validation_fraction=0.34, test_fraction=0.34)
    assert lists.lengths.tolist() == [2] * 12
    assert lists.labels.tolist() == [1, 0, 0, 1] * 6


def test_an_item_shown_twice_keeps_its_first_place_and_any_click() -> None:
    table = impressions(30)
    again = table.filter(pl.col("slot") == 3).with_columns(slot=pl.lit(0), click=1 - pl.col("click"))
    lists = lists_from_impressions(pl.concat([table, again.cast(table.schema)]), None, CONFIG)
    assert set(lists.lengths.tolist()) == {3}
    assert (lists.labels[lists.offsets[:-1]] == 1).all()


def test_item_features_come_from_the_catalogue() -> None:
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(12)], "kind": ["a", "b"] * 6, "price": np.arange(12.0)})
    lists = lists_from_impressions(impressions(), items, CONFIG)
    assert lists.schema.field_sizes == (3,)
    assert lists.schema.feature_count == 4


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        (lambda table: table.drop("request_id"), CONFIG, "no column 'request_id'"),
        (lambda table: table, replace(CONFIG, label="clicks"), "Did you mean 'click'"),
        (lambda table: table.with_columns(slot=pl.lit(None, pl.Int64)), CONFIG, "null in row 0"),
        (lambda table: table.with_columns(click=0), replace(CONFIG, clicked_only=True), "No train list"),
    ],
)
def test_what_cannot_be_used_is_explained(change, config: ListsConfig, words: str) -> None:
    with pytest.raises(DataError, match=words):
        lists_from_impressions(change(impressions()), None, config)
