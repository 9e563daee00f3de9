"""A stream gives the same batches however it is cut, interrupted or repeated, and says what it cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.event_batch import EventBatch
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.hashing import hash_strings
from recascade.data.stream import EventStream
from recascade.data.stream_config import StreamConfig
from recascade.errors import ConfigurationError, DataError

ARRAYS = ("event_ids", "users", "items", "timestamps", "labels", "label_times")


def log(count: int, seed: int = 0) -> pl.DataFrame:
    """Events in order of time."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "event_id": np.arange(count) + 1_000,
            "user_id": pl.Series(random.integers(0, 20, count)).cast(pl.String),
            "item_id": pl.Series(random.integers(0, 30, count)).cast(pl.String),
            "timestamp": 1_000_000 + np.cumsum(random.integers(0, 3, count)),
            "label": random.random(count) < 0.4,
        }
    )


def stream(source: Any, **settings: Any) -> EventStream:
    return EventStream(source, StreamConfig(**settings), GrowingVocabulary(), GrowingVocabulary())


def pieces(table: pl.DataFrame, cuts: list[int]) -> Iterator[pl.DataFrame]:
    edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    return (table[start:end] for start, end in pairwise(edges))


def assert_same(found: list[EventBatch], expected: list[EventBatch]) -> None:
    assert [(batch.offset, batch.next_offset) for batch in found] == [(b.offset, b.next_offset) for b in expected]
    for one, other in zip(found, expected, strict=True):
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
            assert getattr(one, name).dtype == getattr(other, name).dtype


@settings(max_examples=50)
@given(count=st.integers(0, 70), size=st.integers(1, 20), cuts=st.lists(st.integers(0, 70), max_size=6))
def test_batches_do_not_depend_on_how_the_source_comes(count: int, size: int, cuts: list[int]) -> None:
    table = log(count)
    whole = list(stream([table], batch=size).batches())
    assert_same(list(stream(pieces(table, cuts), batch=size).batches()), whole)
    assert [batch.offset for batch in whole] == list(range(0, count, size))
    assert sum(map(len, whole)) == count


def test_a_file_gives_what_its_table_gives(tmp_path: Path) -> None:
    table = log(100)
    table.write_parquet(tmp_path / "log.parquet", row_group_size=23)
    batches = list(stream(tmp_path / "log.parquet", batch=16).batches())
    assert_same(batches, list(stream([table], batch=16).batches()))
    read = pl.concat(pl.Series(batch.labels) for batch in batches)
    assert read.to_list() == table["label"].cast(pl.Float32).to_list()
    assert_same(list(stream(iter(table.to_arrow().to_batches(max_chunksize=9)), batch=16).batches()), batches)


def test_later_events_change_no_batch_and_may_be_added() -> None:
    table = log(50)
    early, whole = stream([table[:20]], batch=8), list(stream([table], batch=8).batches())
    batches = list(early.batches())
    assert_same(batches[:2], whole[:2])
    assert batches[-1].next_offset == 20
    # What came of the third batch is done with; boundaries are the same again from the fourth on.
    grown = stream([table], batch=8)
    grown.restore(early.state())
    assert [batch.offset for batch in grown.batches(20)] == [20, 24, 32, 40, 48]


@pytest.mark.parametrize("place", [0, 1, 3, 7, 11, 12])
@pytest.mark.parametrize("lateness", [0, 20])
def test_a_restart_goes_on_as_if_never_stopped(tmp_path: Path, place: int, lateness: int) -> None:
    table = noisy(log(95, seed=3), seed=lateness)
    path = tmp_path / "log.parquet"
    table.write_parquet(path, row_group_size=20)
    config = StreamConfig(batch=8, allowed_lateness=lateness, late="drop")

    users, items = GrowingVocabulary(), GrowingVocabulary()
    first = EventStream(path, config, users, items)
    reading, before = first.batches(), []
    for _ in range(place):
        before.append(next(reading))
    state = first.state()
    users.save(tmp_path / "users.parquet")
    items.save(tmp_path / "items.parquet")
    rest = list(reading)

    second = EventStream(
        path,
        config,
        GrowingVocabulary.load(tmp_path / "users.parquet"),
        GrowingVocabulary.load(tmp_path / "items.parquet"),
    )
    second.restore(state)
    assert_same(list(second.batches(before[-1].next_offset if before else 0)), rest)
    assert second.counts == first.counts
    assert all(np.array_equal(second.state()[key], value) for key, value in first.state().items())


def noisy(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The log with some events twice, all of them a little out of order."""
    random = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(len(table)), random.integers(0, len(table), 25)])
    return table[rows[np.argsort(rows + random.integers(0, 12, len(rows)), kind="stable")]]


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), lateness=st.integers(0, 30), size=st.integers(1, 25))
def test_what_is_left_out_is_what_the_rules_say(seed: int, lateness: int, size: int) -> None:
    table = noisy(log(95, seed=seed), seed=seed)
    reading = stream([table], batch=size, allowed_lateness=lateness, late="drop")
    taken = [event for batch in reading.batches() for event in batch.event_ids.tolist()]

    expected: list[int] = []
    watermark = repeated = late = 0
    for event, time in table.select("event_id", "timestamp").iter_rows():
        if time < watermark - lateness:
            late += 1
        elif event in expected:
            repeated += 1
        else:
            expected.append(event)
        watermark = max(watermark, time)
    assert taken == expected
    assert reading.counts == {"repeated": repeated, "late": late}


def test_an_event_left_out_moves_no_boundary() -> None:
    table = log(64)
    repeated = pl.concat([table[:10], table[9:10], table[10:]])
    batches = list(stream([repeated], batch=16).batches())
    assert [(batch.offset, len(batch)) for batch in batches] == [(0, 15), (16, 16), (32, 16), (48, 16), (64, 1)]
    assert batches[1].event_ids[0] == 1_000 + 15
    # A batch of which nothing is left still moves the position on.
    again = list(stream([pl.concat([table[:1]] * 20)], batch=8).batches())
    assert [(batch.next_offset, len(batch)) for batch in again] == [(8, 1), (16, 0), (20, 0)]


def test_a_late_event_is_an_error_that_keeps_the_position() -> None:
    table = log(40).with_columns(timestamp=pl.int_range(40) * 10 + 1_000)
    table[21, "timestamp"] = 1_105
    reading = stream([table], batch=8, allowed_lateness=50)
    batches = reading.batches()
    kept = [next(batches) for _ in range(2)]
    state = reading.state()
    with pytest.raises(DataError, match=r"row 21 .* 1105, 95 seconds .*\(1200\).*allowed_lateness is 50.*row 16"):
        next(batches)
    assert reading.state()["watermark"] == state["watermark"] == 1_150
    tolerant = stream([table], batch=8, allowed_lateness=95)
    tolerant.restore(state)
    assert next(tolerant.batches(kept[-1].next_offset)).event_ids.tolist() == list(range(1_016, 1_024))


def test_memory_is_bounded_by_the_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recascade.data.event_admission._SMALLEST_MEMORY", 64)
    table = log(4_000).with_columns(timestamp=pl.int_range(4_000) + 1_000)
    reading = stream([table], batch=16, allowed_lateness=30)
    held = [len(reading._admission._times_by_id) for _ in reading.batches()]
    assert max(held) <= 64 + 16
    assert len(reading.state()["remembered_ids"]) == 31


@pytest.mark.parametrize("place", range(1, 12))
def test_what_was_forgotten_stays_forgotten_over_a_restart(place: int) -> None:
    table = log(96).with_columns(event_id=pl.int_range(96) % 17, timestamp=pl.int_range(96) + 1_000)
    settings = {"batch": 8, "allowed_lateness": 12}
    first = stream([table], **settings)
    reading = first.batches()
    before = [next(reading) for _ in range(place)]
    second = stream([table], **settings)
    second.restore(first.state())
    rest = [batch.event_ids.tolist() for batch in reading]
    assert [batch.event_ids.tolist() for batch in second.batches(before[-1].next_offset)] == rest
    assert second.counts == first.counts


def test_labels_come_with_the_delay_or_at_their_own_time() -> None:
    table = log(10)
    delayed = next(stream([table], label_delay=60).batches())
    np.testing.assert_array_equal(delayed.label_times, delayed.timestamps + 60)
    own = table.with_columns(label_time=pl.col("timestamp") + 5)
    read = next(stream([own], label_delay=60).batches())
    np.testing.assert_array_equal(read.label_times, read.timestamps + 5)


def test_identifiers_of_events_may_be_strings() -> None:
    table = log(10).with_columns(event_id=pl.format("click-{}", "event_id"))
    read = next(stream([pl.concat([table, table[9:]])]).batches())
    np.testing.assert_array_equal(read.event_ids, hash_strings(table["event_id"]).view(np.int64))


def test_arrays_can_be_written_to() -> None:
    batch = next(stream([log(10)]).batches())
    assert all(getattr(batch, name).flags.writeable for name in ARRAYS)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (pl.col("label").cast(pl.Float64).replace(0.0, float("nan")).alias("label"), "'label' .* not between 0 and 1"),
        (pl.lit(2.0).alias("label"), r"'label' .* not between 0 and 1 \(2.0\) in source row 5"),
        (pl.lit(None, pl.Int64).alias("timestamp"), "'timestamp' .* null in source row 5"),
        (pl.lit(-1).alias("timestamp"), r"'timestamp' .* negative .*\(-1\) in source row 5"),
        (pl.lit(10**13).alias("timestamp"), "'timestamp' .*seconds are needed"),
        (pl.lit(None, pl.String).alias("user_id"), "'user_id' .* null in source row 5"),
        (pl.lit(1.5).alias("event_id"), "'event_id' .* type Float64; it must be a whole number"),
        (pl.lit("x").alias("label"), "'label' .* type String; it must be a number"),
        ((pl.col("timestamp") - 1).alias("label_time"), "'label_time' .* before the timestamp"),
        (pl.col("label").alias("clicks"), None),
    ],
)
def test_what_cannot_be_read_is_said(change: pl.Expr, sentence: str | None) -> None:
    table = log(10)
    source = [table[:5], table[5:].with_columns(change)]
    if sentence is None:
        assert len(next(stream(source).batches())) == 10
        return
    with pytest.raises(DataError, match=sentence):
        list(stream(source).batches())


def test_a_missing_column_or_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'label'\. Did you mean 'labels'"):
        list(stream([log(3).rename({"label": "labels"})]).batches())
    with pytest.raises(DataError, match="There is no file"):
        list(stream(tmp_path / "none.parquet").batches())


@pytest.mark.parametrize("place", ["footer", "page"])
def test_a_damaged_file_is_said(tmp_path: Path, place: str) -> None:
    path = tmp_path / "log.parquet"
    log(5_000).write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:-50] if place == "footer" else content[:8] + b"x" * 9_000 + content[9_008:])
    with pytest.raises(DataError, match=r"log\.parquet is not a complete Parquet file"):
        list(stream(path).batches())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch": 0}, "stream.batch is 0; it must be at least 1"),
        ({"late": "ignore"}, "stream.late is 'ignore'"),
        ({"unknown_times": "drp"}, "Did you mean 'drop'"),
        ({"allowed_lateness": -1}, "stream.allowed_lateness is -1"),
        ({"since": "yesterday"}, "stream.since=yesterday is no time"),
        ({"label": "rating", "negatives": 1}, "only for logs of positives"),
        ({"positive_from": 4}, "stream.label is empty"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        stream([log(3)], **settings)
