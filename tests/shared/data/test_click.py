from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.click import ClickData, encode_clicks, temporal_parts
from recascade.data.features import build_features
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError

DATA = Path(os.environ.get("RECASCADE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


@dataclass
class Settings:
    batch_sequences: int = 3
    batch_tokens: int = 0
    bucket: int = 2
    validation_users: int = 0
    workers: int = 0


impressions = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 12), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def table(rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "click"], orient="row")


@given(impressions)
@settings(max_examples=150)
def test_history_is_the_users_earlier_clicks_and_nothing_of_the_same_second(rows) -> None:
    # User c and item z are unknown: no history of the one, no place in a history for the other.
    log = encode_clicks(table(rows), Vocabulary(["x", "y"]), Vocabulary(["a", "b"]))
    everything = np.arange(len(rows))
    data = ClickData(log, Settings(), training=everything, validation=everything, max_history=100)
    batch = data.batch(everything)
    for row, (user, item, time, click) in enumerate(rows):
        earlier = [
            ("xy".index(i), t) for u, i, t, c in rows if u == user and user in "ab" and i in "xy" and c and t < time
        ]
        begin, end = batch.context.offsets[row : row + 2].tolist()
        items, times = (column[begin:end].tolist() for column in (batch.context.items, batch.context.timestamps))
        seen = list(zip(items, times, strict=True))
        assert sorted(seen) == sorted(earlier)
        assert [t for _, t in seen] == sorted(t for _, t in seen)
        assert int(batch.items[row]) == ("xy".index(item) if item in "xy" else -1)
        assert float(batch.labels[row]) == click
        assert int(batch.context.now[row]) == time


def test_only_the_latest_clicks_are_kept() -> None:
    log = encode_clicks(
        table([("a", "x", 1, 1), ("a", "y", 2, 1), ("a", "x", 3, 1), ("a", "y", 9, 0)]),
        Vocabulary(["x", "y"]),
        Vocabulary(["a"]),
    )
    data = ClickData(log, Settings(), training=np.array([3]), validation=np.array([3]), max_history=2)
    assert data.batch(np.array([3])).context.items.tolist() == [1, 0]


def test_training_and_validation_rows_are_those_given() -> None:
    rows = [("a", "x", time, time % 2) for time in range(30)]
    log = encode_clicks(table(rows), Vocabulary(["x"]), Vocabulary(["a"]))
    training, validation, _ = temporal_parts(log.timestamps, 0.2, 0.2)
    data = ClickData(log, Settings(), training=training, validation=validation)
    times = torch.cat([batch.context.now for batch in data.train_dataloader()])
    assert sorted(times.tolist()) == list(range(18))
    times = torch.cat([batch.context.now for batch in data.val_dataloader()])
    assert times.tolist() == list(range(18, 24))


@given(st.lists(st.integers(0, 50), min_size=5, max_size=200), st.floats(0, 0.4), st.floats(0, 0.4))
@settings(max_examples=100)
def test_temporal_parts_never_overlap_in_time(times, validation_fraction, test_fraction) -> None:
    timestamps = np.array(times)
    try:
        parts = temporal_parts(timestamps, validation_fraction, test_fraction)
    except DataError:
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(times)))
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        if len(parts[earlier]) and len(parts[later]):
            assert timestamps[parts[earlier]].max() < timestamps[parts[later]].min()


def test_log_without_users_has_no_histories() -> None:
    log = encode_clicks(table([("a", "x", 1, 1), ("a", "x", 2, 1)]).drop("user_id"), Vocabulary(["x"]))
    batch = ClickData(log, Settings(), training=np.arange(2), validation=np.arange(0)).batch(np.arange(2))
    assert batch.context.users.tolist() == [-1, -1]
    assert batch.context.items.numel() == 0
    assert (batch.categorical.shape, batch.numeric.shape) == ((2, 0), (2, 0))


def test_missing_column_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no column 'click'. Did you mean 'clicked'\?"):
        encode_clicks(table([("a", "x", 1, 1)]).rename({"click": "clicked"}), Vocabulary(["x"]))


def test_null_label_names_the_row() -> None:
    with pytest.raises(DataError, match="'click' of the impressions is null in row 1"):
        encode_clicks(table([("a", "x", 1, 1), ("a", "x", 2, None)]), Vocabulary(["x"]))


@pytest.mark.skipif(not (DATA / "open-bandit").is_dir(), reason="Open Bandit is not there (set RECASCADE_DATA)")
def test_real_impressions_with_features() -> None:
    real = pl.read_parquet(DATA / "open-bandit" / "impressions.parquet").with_row_index("row")
    real = real.with_columns(pl.col("row").cast(pl.String))
    training, validation, _ = temporal_parts(real["timestamp"].to_numpy(), 0.1, 0.1)
    known = np.zeros(len(real), dtype=bool)
    known[training] = True
    columns = ["row", "slot", "campaign", "policy", "user_feature_0", "user_feature_1"]
    features = build_features(real.select(columns), "row", real["row"], known)
    items = Vocabulary.seeded(real["item_id"].gather(training).unique(), seed=0)
    log = encode_clicks(real, items, features=features)
    data = ClickData(log, Settings(batch_sequences=512), training=training, validation=validation)
    batches = list(data.train_dataloader())
    assert sum(batch.target_count for batch in batches) == len(training)
    clicks = sum(float(batch.labels.sum()) for batch in batches)
    assert clicks == real["click"].gather(training).sum()
    assert batches[0].categorical.shape == (len(batches[0].labels), 5)
