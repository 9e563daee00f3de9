"""From a data set to an event stream on disk: labelled events in order of time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recascade.data import schema
from recascade.data.dataset import Dataset
from recascade.data.filters import time_window
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.impression_sampling import ImpressionSampler
from recascade.data.split_config import parse_time
from recascade.data.stream_config import StreamConfig
from recascade.data.ties import tie_hash
from recascade.errors import DataError, did_you_mean
from recascade.files import write_atomically

ROW_GROUP = 65_536
# Rows that are sorted at once, so that a log need not fit into memory.
ROWS_AT_ONCE = 1 << 22
_FORMAT = 2
_METADATA = b"recascade.stream"
_HOUR = 3_600
_SCHEMA = pa.schema(
    [
        ("event_id", pa.int64()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("label", pa.float32()),
    ]
)


def prepare_stream(dataset: Dataset, config: StreamConfig, destination: Path) -> Path:
    """Write the interactions of a data set as a stream, unless that was done before.

    Rows are ordered by timestamp and, inside one second, by a hash of (seed, user, item): never by the order of the
    file. ``event_id`` numbers them from 0. With ``config.negatives``, sampled impressions are rows like others, and a
    positive whose item nobody had in an earlier second is left out: it could be no impression, which would tell its
    label.

    Args:
        dataset: with timestamps.
        config: labels, sampled impressions, window of time and seed.
        destination: folder of prepared streams; the file's name in it is a hash of the data and of the keys of
            ``config`` that decide the rows.

    Returns:
        The Parquet file, with row groups of 65,536 rows; ``read_stream_facts`` reads its header.

    Raises:
        DataError: the label's column is missing, not numeric, null or NaN; a timestamp is null and ``unknown_times`` is
            ``error``; or nothing is left.
    """
    config.check()
    content = {"format": _FORMAT, "data": dataset.fingerprint, "config": config.content()}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    path = destination / f"stream-{digest}.parquet"
    if not path.is_file():
        events, unknown = _events(dataset, config)
        facts = {"data_set": dataset.name, "synthetic": dataset.synthetic, "terms": dataset.terms, **content}
        _write(path, events, config, {**facts, "unknown_times": unknown})
    return path


def read_stream_facts(path: Path) -> dict[str, Any]:
    """The header of a prepared stream.

    Returns:
        ``data_set`` (name), ``data`` (fingerprint), ``config``, ``synthetic``, ``terms``, and the numbers ``events``
        (all rows), ``positives``, ``sampled_negatives``, ``negatives_left_out`` (no item could be drawn),
        ``positives_left_out`` (where impressions are sampled: of items new in that second) and ``unknown_times``
        (events left out for want of a timestamp).

    Raises:
        DataError: the file is absent, damaged, or was not written by ``prepare_stream``.
    """
    with schema.explain_read_failure(path):
        metadata = pq.read_metadata(path).metadata or {}
    if _METADATA not in metadata:
        raise DataError(f"{path} is no prepared stream: its header says nothing of one; make it with prepare_stream.")
    facts: dict[str, Any] = json.loads(metadata[_METADATA])
    return facts


def _events(dataset: Dataset, config: StreamConfig) -> tuple[pl.LazyFrame, int]:
    """user_id, item_id, timestamp and label of the events that take part, and how many had no timestamp."""
    path = dataset.table_path("interactions")
    frame = dataset.interactions()
    columns = frame.collect_schema()
    for name, key in (("timestamp", ""), (config.label, "stream.label: ")):
        if name and name not in columns:
            raise DataError(f"{key}{path} has no column {name!r}.{did_you_mean(name, columns)}")
    schema.check_interactions(frame, path)
    if config.label:
        _check_label(frame, config.label, path)
        # Compared in the column's own type: as float64, a rating of 3.3 in float32 would lie below 3.3.
        liked = pl.col(config.label) if columns[config.label].is_numeric() else pl.col(config.label).cast(pl.Int8)
        label = liked > 0 if config.positive_from is None else liked >= config.positive_from
    else:
        label = pl.lit(True)
    unknown = int(frame.select(pl.col("timestamp").null_count()).collect(engine="streaming").item())
    if unknown and config.unknown_times == "error":
        raise DataError(
            f"{unknown:,} events of {path} have no timestamp, so they have no place in a stream; "
            "leave them out with stream.unknown_times=drop."
        )
    times = parse_time(config.since, "stream.since"), parse_time(config.until, "stream.until")
    known = time_window(frame.filter(pl.col("timestamp").is_not_null()), *times)
    return known.select("user_id", "item_id", "timestamp", label.cast(pl.Float32).alias("label")), unknown


def _check_label(frame: pl.LazyFrame, name: str, path: Path) -> None:
    dtype = frame.collect_schema()[name]
    if not (dtype.is_numeric() or dtype == pl.Boolean):
        raise DataError(f"stream.label: column {name!r} of {path} has type {dtype}; a label must be a number.")
    missing = pl.col(name).is_null() | pl.col(name).cast(pl.Float64).is_nan().fill_null(False)
    count, row = frame.select(missing.sum(), missing.arg_true().first().alias("row")).collect(engine="streaming").row(0)
    if count:
        raise DataError(
            f"stream.label: column {name!r} of {path} is null or not a number in {count:,} rows, first in row "
            f"{row + 1} (counted from 1); fill or drop such rows."
        )


def _write(path: Path, events: pl.LazyFrame, config: StreamConfig, facts: dict[str, Any]) -> None:
    sampler = ImpressionSampler(config.negatives, config.negative_popularity, config.seed)
    users, items = GrowingVocabulary(kind="user"), GrowingVocabulary(kind="item")
    rows = positives = sampled = 0
    with write_atomically(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        waiting = _SCHEMA.empty_table()
        for start, end in _stretches(events, ROWS_AT_ONCE // (1 + config.negatives)):
            table = events.filter(pl.col("timestamp").is_between(start, end, closed="left")).collect(engine="streaming")
            table = _in_order(table, config.seed)
            if config.negatives:
                kept, impressions = _with_impressions(table, sampler, users, items)
                sampled += len(impressions)
                table = _in_order(pl.concat([kept, impressions]), config.seed)
            positives += int(table["label"].sum())
            table = table.with_columns(event_id=pl.int_range(rows, rows + len(table), dtype=pl.Int64))
            rows += len(table)
            waiting = pa.concat_tables([waiting, table.select(_SCHEMA.names).to_arrow().cast(_SCHEMA)])
            if whole := len(waiting) // ROW_GROUP * ROW_GROUP:
                writer.write_table(waiting.slice(0, whole), row_group_size=ROW_GROUP)
                waiting = waiting.slice(whole)
        if not rows:
            raise DataError(
                f"No event of {facts['data_set']!r} is left for a stream; check stream.since and stream.until"
                + (", and that items come again in later seconds." if config.negatives else ".")
            )
        if len(waiting):
            writer.write_table(waiting)
        counts = {"events": rows, "positives": positives, "sampled_negatives": sampled}
        left_out = {"negatives_left_out": sampler.left_out, "positives_left_out": sampler.new_items}
        header = json.dumps({**facts, **counts, **left_out})
        writer.add_key_value_metadata({_METADATA: header})


def _stretches(events: pl.LazyFrame, size: int) -> Iterator[tuple[int, int]]:
    """Stretches of time [start, end) with about ``size`` events each, in order; cut at full hours."""
    hours = events.group_by((pl.col("timestamp") // _HOUR).alias("hour")).len().sort("hour").collect(engine="streaming")
    hour = hours["hour"].to_numpy()
    number = (np.cumsum(hours["len"].to_numpy()) - 1) // max(1, size)
    cuts = np.flatnonzero(np.diff(number)) + 1
    for part in np.split(hour, cuts):
        if len(part):
            yield int(part[0]) * _HOUR, (int(part[-1]) + 1) * _HOUR


def _in_order(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    # The label comes last, so that two ratings of one item in one second have an order too.
    order = np.lexsort((table["label"].to_numpy(), tie_hash(table, seed), table["timestamp"].to_numpy()))
    return table[order]


def _with_impressions(
    table: pl.DataFrame, sampler: ImpressionSampler, users: GrowingVocabulary, items: GrowingVocabulary
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of a stretch of positives those that stay, and the rows with label 0 sampled for them."""
    seen, rows, drawn = sampler.sample(
        users.encode(table["user_id"]), items.encode(table["item_id"]), table["timestamp"].to_numpy()
    )
    impressions = table[rows].with_columns(
        items.ids.gather(drawn).alias("item_id"), pl.lit(0.0, dtype=pl.Float32).alias("label")
    )
    return table.filter(pl.Series(seen)), impressions
