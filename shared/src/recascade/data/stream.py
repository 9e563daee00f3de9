"""A stream of labelled events in micro-batches whose boundaries depend on nothing but the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recascade.data.event_admission import EventAdmission
from recascade.data.event_batch import EventBatch
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.hashing import hash_strings
from recascade.data.schema import LATEST_TIMESTAMP, explain_read_failure
from recascade.data.stream_config import StreamConfig
from recascade.errors import DataError, did_you_mean

COLUMNS = ("event_id", "user_id", "item_id", "timestamp", "label")


class EventStream:
    """Events from a Parquet file or from tables that come one by one.

    The source has the columns ``event_id`` (whole number, or string, of which a 64-bit hash is used), ``user_id`` and
    ``item_id`` (string), ``timestamp`` (seconds since 1970), ``label`` (in [0, 1]) and, if labels come at times of
    their own, ``label_time`` (seconds); its rows stand in order of time, give or take ``config.allowed_lateness``.
    ``prepare_stream`` writes such a file.

    Batches end at source rows that are multiples of ``config.batch`` (and at the end of the source), so that an event
    left out never moves a boundary, and reading from any batch's ``next_offset`` on gives the same batches again.
    """

    def __init__(
        self,
        source: Path | Iterable[pl.DataFrame | pa.RecordBatch],
        config: StreamConfig,
        users: GrowingVocabulary,
        items: GrowingVocabulary,
    ) -> None:
        """Open a stream; nothing is read yet.

        Args:
            source: a Parquet file, or tables whose rows together are the stream from its row 0 on.
            config: size of batches, label delay and lateness.
            users: gives users their rows. It grows by whole tables or row groups, a little ahead of the batches.
            items: likewise for items.
        """
        config.check()
        self._source = source
        self._config = config
        self._users = users
        self._items = items
        self._admission = EventAdmission(config)

    @property
    def counts(self) -> dict[str, int]:
        """How many events were left out so far: ``repeated`` and ``late``."""
        return {"repeated": self._admission.repeated, "late": self._admission.late}

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold besides the last batch's ``next_offset`` and the vocabularies.

        Whole numbers and int64 arrays, as they are after the batch given last.
        """
        return self._admission.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave, before ``batches`` is asked to go on from the offset that belongs to it."""
        self._admission.restore(state)

    def batches(self, start: int = 0) -> Iterator[EventBatch]:
        """The micro-batches from a source row on; row groups of a file that end before it are not read.

        Args:
            start: 0, or the ``next_offset`` of a batch.

        Raises:
            DataError: a column is missing or of a wrong type, a value is null, not a number or impossible, or an event
                is late; it names the column and the source row, counted from 0.
        """
        size = self._config.batch
        waiting: EventBatch | None = None
        for offset, table in self._tables(start):
            read = self._encode(table, offset)
            waiting = read if waiting is None else waiting.followed_by(read)
            while (boundary := (waiting.offset // size + 1) * size) <= waiting.next_offset:
                yield self._admission.admit(waiting.rows(waiting.offset, boundary))
                waiting = waiting.rows(boundary, waiting.next_offset)
        if waiting is not None and len(waiting):
            yield self._admission.admit(waiting)

    def _tables(self, start: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """Tables of source rows from ``start`` on, each with the row it begins at."""
        pieces = _row_groups(self._source, start) if isinstance(self._source, Path) else _numbered(self._source)
        for offset, table in pieces:
            skipped = min(max(0, start - offset), len(table))
            if skipped < len(table):
                yield offset + skipped, table.slice(skipped)

    def _encode(self, table: pl.DataFrame, offset: int) -> EventBatch:
        table = _checked(table, offset)
        ids = table["event_id"]
        # Polars lends its memory read-only, which torch.from_numpy does not take without a warning.
        timestamps = table["timestamp"].to_numpy(writable=True)
        if "label_time" in table.columns:
            label_times = table["label_time"].to_numpy(writable=True)
        else:
            label_times = timestamps + self._config.label_delay
        return EventBatch(
            offset,
            offset + len(table),
            event_ids=hash_strings(ids).view(np.int64) if ids.dtype == pl.String else ids.to_numpy(writable=True),
            users=self._users.encode(table["user_id"]),
            items=self._items.encode(table["item_id"]),
            timestamps=timestamps,
            labels=table["label"].to_numpy(writable=True),
            label_times=label_times,
        )


def _numbered(tables: Iterable[pl.DataFrame | pa.RecordBatch]) -> Iterator[tuple[int, pl.DataFrame]]:
    offset = 0
    for table in tables:
        frame = table if isinstance(table, pl.DataFrame) else pl.DataFrame(pa.Table.from_batches([table]))
        yield offset, frame
        offset += len(frame)


def _row_groups(path: Path, start: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """The row groups of a file that hold rows from ``start`` on."""
    with explain_read_failure(path):
        file = pq.ParquetFile(path)
    with file:
        offset = 0
        columns = [name for name in (*COLUMNS, "label_time") if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if offset + rows > start:
                with explain_read_failure(path):
                    table = file.read_row_group(group, columns=columns)
                yield offset, pl.DataFrame(table)
            offset += rows


def _checked(table: pl.DataFrame, offset: int) -> pl.DataFrame:
    """The columns of the stream in their types.

    Raises:
        DataError: naming the column and the first source row that is wrong.
    """
    for name in COLUMNS:
        if name not in table.columns:
            raise DataError(
                f"The stream has no column {name!r}.{did_you_mean(name, table.columns)} An event stream has "
                f"{', '.join(COLUMNS)}; prepare_stream makes one from a data set."
            )
    names = [*COLUMNS, *(["label_time"] if "label_time" in table.columns else [])]
    table = table.select(_typed(name, table.schema[name]) for name in names)
    time, label = pl.col("timestamp"), pl.col("label")
    faults = {name: ("is null", pl.col(name).is_null()) for name in names}
    _refuse(table, offset, faults)
    values = {
        "timestamp": (
            "is negative or after the year 2200 (seconds are needed)",
            (time < 0) | (time >= LATEST_TIMESTAMP),
        ),
        "label": ("is not between 0 and 1", ~label.is_between(0, 1)),
    }
    if "label_time" in names:
        values["label_time"] = ("lies before the timestamp", pl.col("label_time") < time)
    _refuse(table, offset, values)
    return table


def _refuse(table: pl.DataFrame, offset: int, faults: Mapping[str, tuple[str, pl.Expr]]) -> None:
    wrong = table.select(fault.any().alias(name) for name, (_, fault) in faults.items()).row(0, named=True)
    for name, (sentence, fault) in faults.items():
        if wrong[name]:
            row = int(table.select(fault.arg_true().first()).item())
            value = table[name][row]
            found = "" if value is None else f" ({value})"
            raise DataError(
                f"Column {name!r} of the stream {sentence}{found} in source row {offset + row} (counted from 0); "
                "mend or drop such rows before they are streamed."
            )


def _typed(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if name == "label" and (dtype.is_numeric() or dtype == pl.Boolean):
        return column.cast(pl.Float32)
    if name in ("user_id", "item_id") and (dtype == pl.String or dtype.is_integer() or dtype == pl.Categorical):
        return column.cast(pl.String)
    if name in ("event_id", "timestamp", "label_time") and dtype.is_integer():
        return column.cast(pl.Int64)
    if name == "event_id" and dtype == pl.String:
        return column
    wanted = {"label": "a number", "user_id": "a string", "item_id": "a string"}.get(name, "a whole number")
    raise DataError(f"Column {name!r} of the stream has type {dtype}; it must be {wanted}.")
