"""A prepared stream depends on the events alone, and a sampled impression knows nothing of the future."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.dataset import Dataset
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.impression_sampling import ImpressionSampler
from recascade.data.stream import EventStream
from recascade.data.stream_config import StreamConfig
from recascade.data.stream_preparation import prepare_stream, read_stream_facts
from recascade.errors import DataError
from recascade.evaluation.click_metrics import auc

DATA = Path(os.environ.get("RECASCADE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def ratings(count: int = 400, seed: int = 0) -> pl.DataFrame:
    """Events of a few seconds each, over several hours."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": pl.Series(random.integers(0, 15, count)).cast(pl.String),
            "item_id": pl.Series(random.zipf(1.5, count) % 40).cast(pl.String),
            "timestamp": 1_000_000 + random.integers(0, count // 4, count) * 120,
            "rating": random.integers(1, 6, count).astype(np.float32),
        }
    )


def written(folder: Path, events: pl.DataFrame, name: str = "log") -> Dataset:
    (folder / name).mkdir(parents=True, exist_ok=True)
    events.write_parquet(folder / name / "interactions.parquet")
    return Dataset.open(folder / name)


def prepared(folder: Path, events: pl.DataFrame, name: str = "log", **settings: Any) -> pl.DataFrame:
    return pl.read_parquet(prepare_stream(written(folder, events, name), StreamConfig(**settings), folder / "streams"))


@pytest.mark.parametrize("settings", [{"label": "rating", "positive_from": 4.0}, {"negatives": 3}])
def test_the_order_of_the_file_does_not_matter(tmp_path: Path, settings: dict[str, Any]) -> None:
    events = ratings()
    first = prepared(tmp_path, events, "first", **settings)
    second = prepared(tmp_path, events.sample(fraction=1.0, shuffle=True, seed=7), "second", **settings)
    assert first.equals(second)
    other_seed = prepared(tmp_path, events, "first", seed=1, **settings)
    assert not other_seed.equals(first)
    assert other_seed["timestamp"].is_sorted()


@pytest.mark.parametrize("settings", [{"label": "rating"}, {"negatives": 2, "negative_popularity": 0.5}])
def test_stretches_that_are_sorted_at_once_do_not_matter(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(tmp_path / "whole", ratings(), **settings)
    monkeypatch.setattr("recascade.data.stream_preparation.ROWS_AT_ONCE", 50)
    monkeypatch.setattr("recascade.data.stream_preparation.ROW_GROUP", 64)
    path = prepare_stream(written(tmp_path, ratings()), StreamConfig(**settings), tmp_path / "streams")
    assert pl.read_parquet(path).equals(whole)
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert len(sizes) > 5
    assert set(sizes[:-1]) == {64}


def test_every_event_stands_once_in_order_of_time(tmp_path: Path) -> None:
    events = ratings()
    stream = prepared(tmp_path, events, label="rating", positive_from=4)
    assert stream["event_id"].to_list() == list(range(len(events)))
    assert stream["timestamp"].is_sorted()
    expected = events.select("user_id", "item_id", "timestamp", label=(pl.col("rating") >= 4).cast(pl.Float32))
    names = expected.columns
    assert stream.select(names).sort(names).equals(expected.sort(names))


def test_labels_are_what_the_settings_say(tmp_path: Path) -> None:
    assert prepared(tmp_path, ratings())["label"].to_list() == [1.0] * 400
    clicks = ratings().with_columns(click=pl.col("rating") > 3)
    assert prepared(tmp_path, clicks, label="click")["label"].sum() == clicks["click"].sum()
    tenths = ratings().with_columns(rating=(pl.col("rating") + 0.3).cast(pl.Float32))
    assert prepared(tmp_path, tenths, label="rating", positive_from=3.3)["label"].sum() == (tenths["rating"] > 3).sum()
    dated = prepared(tmp_path, ratings(), since="1002400", until="1005000")
    expected = ratings().filter(pl.col("timestamp").is_between(1_002_400, 1_005_000, closed="left"))
    assert 0 < len(dated) == len(expected) < 400


def test_it_is_prepared_once(tmp_path: Path) -> None:
    data = written(tmp_path, ratings())
    first = prepare_stream(data, StreamConfig(negatives=1), tmp_path / "streams")
    changed = first.stat().st_mtime_ns
    assert prepare_stream(data, StreamConfig(negatives=1, batch=8, late="drop"), tmp_path / "streams") == first
    assert first.stat().st_mtime_ns == changed
    assert prepare_stream(data, StreamConfig(negatives=2), tmp_path / "streams") != first
    other = written(tmp_path, ratings(seed=1), "other")
    assert prepare_stream(other, StreamConfig(negatives=1), tmp_path / "streams") != first


def test_the_header_tells_what_is_in_the_file(tmp_path: Path) -> None:
    data = written(tmp_path, ratings(), "synthetic-log")
    facts = read_stream_facts(prepare_stream(data, StreamConfig(negatives=3), tmp_path / "streams"))
    assert facts["data"] == data.fingerprint
    assert facts["synthetic"] is True
    assert facts["config"]["negatives"] == 3
    assert facts["positives"] + facts["positives_left_out"] == 400
    assert facts["positives_left_out"] > 20
    assert facts["sampled_negatives"] + facts["negatives_left_out"] == 3 * facts["positives"]
    assert facts["events"] == facts["positives"] + facts["sampled_negatives"]


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), exponent=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_impressions_are_of_items_seen_before_and_not_liked_then(seed: int, exponent: float) -> None:
    events = ratings(120, seed).sort("timestamp")
    users, items = (events[name].cast(pl.Int64).to_numpy() for name in ("user_id", "item_id"))
    times = events["timestamp"].to_numpy()
    seen, rows, drawn = ImpressionSampler(2, exponent, seed).sample(users, items, times)
    first = {item: times[items == item].min() for item in set(items.tolist())}
    liked = set(zip(users.tolist(), items.tolist(), times.tolist(), strict=True))
    for row, item in zip(rows.tolist(), drawn.tolist(), strict=True):
        assert first[item] < times[row]
        assert (users[row], item, times[row]) not in liked
    assert seen.tolist() == [first[item] < time for item, time in zip(items.tolist(), times.tolist(), strict=True)]
    assert seen[rows].all()


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 119))
def test_impressions_do_not_depend_on_later_events(seed: int, cut: int) -> None:
    events = ratings(120, seed).sort("timestamp")
    columns = [events[name].cast(pl.Int64).to_numpy() for name in ("user_id", "item_id", "timestamp")]
    cut = int(np.searchsorted(columns[2], columns[2][cut]))
    seen, rows, drawn = ImpressionSampler(2, 1.0, seed).sample(*columns)
    halves = ImpressionSampler(2, 1.0, seed)
    early = halves.sample(*(column[:cut] for column in columns))
    np.testing.assert_array_equal(early[0], seen[:cut])
    np.testing.assert_array_equal(early[1], rows[rows < cut])
    np.testing.assert_array_equal(early[2], drawn[rows < cut])
    late = halves.sample(*(column[cut:] for column in columns))
    np.testing.assert_array_equal(late[0], seen[cut:])
    np.testing.assert_array_equal(late[2], drawn[rows >= cut])


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [1, 1, 1]), (0.5, [1, 2, 4]), (1.0, [1, 4, 16])])
def test_items_are_drawn_by_their_counts(exponent: float, expected: list[int]) -> None:
    items = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [1, 4, 16]))
    times = np.zeros(21, dtype=np.int64)
    sampler = ImpressionSampler(30_000, exponent, seed=3)
    # Item 3 comes first of all and once, and is what the user takes then: it is never drawn.
    sampler.sample(np.array([1]), np.array([3]), times[:1] - 1)
    sampler.sample(np.zeros(21, dtype=np.int64), items, times)
    _, _, drawn = sampler.sample(np.array([1]), np.array([3]), times[:1] + 1)
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, np.array([*expected, 0]) / sum(expected), atol=0.015)


def test_impressions_that_cannot_be_drawn_are_counted() -> None:
    sampler = ImpressionSampler(4, 0.0, seed=0)
    # Nothing comes before the first second, and the only item seen by the second one is liked then.
    seen, rows, _ = sampler.sample(np.array([0, 0]), np.array([0, 0]), np.array([5, 6]))
    assert (seen.tolist(), len(rows)) == ([False, True], 0)
    assert (sampler.left_out, sampler.new_items) == (4, 1)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_no_event_of_either_label_is_of_a_new_item(tmp_path: Path, exponent: float) -> None:
    events = ratings()
    stream = prepared(tmp_path, events, negatives=2, negative_popularity=exponent)
    first = events.group_by("item_id").agg(pl.col("timestamp").min().alias("first"))
    dated = stream.join(first, on="item_id")
    assert len(dated) == len(stream)
    assert (dated["timestamp"] > dated["first"]).all()
    names = ["user_id", "item_id", "timestamp"]
    expected = events.join(first, on="item_id").filter(pl.col("timestamp") > pl.col("first")).select(names)
    assert stream.filter(pl.col("label") > 0).select(names).sort(names).equals(expected.sort(names))


def test_whether_an_item_was_had_before_does_not_tell_the_label(tmp_path: Path) -> None:
    """Positives are a new item in every fifth second and otherwise drawn as impressions are: nothing is to be told."""
    random = np.random.default_rng(0)
    items = [0]
    for _ in range(5_999):
        items.append(max(items) + 1 if random.random() < 0.2 else items[random.integers(len(items))])
    log = pl.DataFrame(
        {
            "user_id": pl.Series(range(6_000)).cast(pl.String),
            "item_id": pl.Series(items).cast(pl.String),
            "timestamp": 1_000_000 + np.arange(6_000),
        }
    )
    stream = prepared(tmp_path, log, negatives=1, negative_popularity=1.0)
    labels, rows = stream["label"].to_numpy() > 0, stream["item_id"].cast(pl.Int64).to_numpy()
    never_liked = np.ones(len(items), dtype=np.bool_)
    new = np.zeros(len(stream))
    for event, (item, liked) in enumerate(zip(rows, labels, strict=True)):
        new[event] = never_liked[item]
        never_liked[item] &= not liked
    assert labels.mean() == pytest.approx(0.5, abs=0.001)
    assert 0.1 < new.mean() < 0.9
    assert auc(labels, new) == pytest.approx(0.5, abs=0.02)


def test_a_log_whose_items_never_come_again_leaves_no_stream(tmp_path: Path) -> None:
    events = ratings().with_columns(timestamp=pl.lit(1_000_000))
    with pytest.raises(DataError, match="that items come again in later seconds"):
        prepared(tmp_path, events, negatives=1)


@pytest.mark.parametrize(
    ("events", "settings", "sentence"),
    [
        (ratings(), {"label": "ratng"}, r"stream.label: .* no column 'ratng'\. Did you mean 'rating'"),
        (ratings(), {"label": "user_id"}, "type String; a label must be a number"),
        (ratings(), {"since": "2030-01-01"}, "No event of 'log' is left"),
        (ratings().with_columns(rating=float("nan")), {"label": "rating"}, "not a number in 400 rows, first in row 1 "),
        (ratings().with_columns(pl.lit(None, pl.Float32).alias("rating")), {"label": "rating"}, "null .* 400 rows"),
        (ratings().with_columns(timestamp=pl.lit(10**13)), {}, "milliseconds"),
        (ratings().with_columns(user_id=pl.lit(None, pl.String)), {}, "user_id is null"),
        (ratings().rename({"timestamp": "position"}), {}, "no column 'timestamp'"),
    ],
)
def test_unusable_data_are_refused(
    tmp_path: Path, events: pl.DataFrame, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        prepared(tmp_path, events, **settings)
    assert not list(tmp_path.glob("streams/*.parquet"))


def test_events_of_unknown_time_are_refused_or_left_out(tmp_path: Path) -> None:
    events = ratings().with_columns(timestamp=pl.when(pl.int_range(400) % 10 == 0).then(None).otherwise("timestamp"))
    data = written(tmp_path, events)
    with pytest.raises(DataError, match=r"40 events .* no timestamp.*stream\.unknown_times=drop"):
        prepare_stream(data, StreamConfig(), tmp_path / "streams")
    facts = read_stream_facts(prepare_stream(data, StreamConfig(unknown_times="drop"), tmp_path / "streams"))
    assert (facts["events"], facts["unknown_times"]) == (360, 40)


def test_another_file_is_no_prepared_stream(tmp_path: Path) -> None:
    ratings().write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is no prepared stream"):
        read_stream_facts(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="There is no file"):
        read_stream_facts(tmp_path / "none.parquet")


@pytest.mark.skipif(not (DATA / "ml-100k").is_dir(), reason="MovieLens-100K is not there (set RECASCADE_DATA)")
def test_movielens_streams_whole(tmp_path: Path) -> None:
    config = StreamConfig(label="rating", positive_from=4)
    path = prepare_stream(Dataset.open(DATA / "ml-100k"), config, tmp_path)
    users, items = GrowingVocabulary(), GrowingVocabulary()
    stream = EventStream(path, config, users, items)
    batches = list(stream.batches())
    assert stream.counts == {"repeated": 0, "late": 0}
    assert (sum(map(len, batches)), len(users), len(items)) == (100_000, 943, 1_682)
    assert sum(batch.labels.sum() for batch in batches) == 55_375
    late = list(EventStream(path, config, users, items).batches(start=70_144))
    assert late[0].offset == 70_144
    np.testing.assert_array_equal(late[0].items, batches[274].items)
