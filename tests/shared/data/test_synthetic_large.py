from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recascade.data import synthetic_large
from recascade.data.dataset import Dataset
from recascade.data.synthetic_large import large_log
from recascade.errors import ConfigurationError

SIZE = {"events": 20_000, "users": 300, "items": 100}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(synthetic_large, "EVENTS_PER_BLOCK", 700)
    return large_log(tmp_path / "made", **SIZE)


def test_rows_are_as_many_as_asked_and_in_the_order_of_time(made: Dataset) -> None:
    log = made.interactions().collect()
    assert len(log) == SIZE["events"]
    assert log["timestamp"].is_sorted()
    assert log["user_id"].n_unique() <= SIZE["users"]
    assert log["item_id"].n_unique() == SIZE["items"]
    assert made.synthetic


def test_an_event_follows_from_the_one_before_also_over_the_ends_of_blocks(made: Dataset) -> None:
    log = made.interactions().with_row_index().collect().sort("user_id", "index")
    place = pl.col("item_id").str.slice(1).cast(pl.Int64)
    step = (place - place.shift().over("user_id")) % SIZE["items"]
    block = pl.col("index") // 700
    steps = log.select(step=step, crossing=block != block.shift().over("user_id")).drop_nulls()
    for group in (steps, steps.filter("crossing")):
        share = group.select(pl.col("step").is_in([1, 2]).mean()).item()
        assert 0.68 < share < 0.78  # 0.7, and now and then a draw that happens to stand there


def test_the_seed_alone_decides(tmp_path: Path, made: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    again = large_log(tmp_path / "again", **SIZE).interactions().collect()
    other = large_log(tmp_path / "other", **SIZE, seed=1).interactions().collect()
    assert again.equals(made.interactions().collect())
    assert not other.equals(again)


def test_some_users_and_items_are_busier_than_others(made: Dataset) -> None:
    for column in ("user_id", "item_id"):
        counts = made.interactions().group_by(column).len().collect()["len"]
        assert counts.max() > 4 * counts.median()


def test_nothing_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="0 events"):
        large_log(tmp_path / "none", events=0, users=1, items=1)
