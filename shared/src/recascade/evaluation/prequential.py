"""The ledger of prequential predictions: every event of a stream, with the probability given before it was learnt from.

Prequential evaluation (Dawid, 1984; "test, then train" in the stream literature) needs each event exactly once, also
after a crash: the ledger is cut back to the offset of the learner's checkpoint before the learner goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from recascade.data.schema import explain_read_failure
from recascade.errors import DataError, TrainingError
from recascade.files import write_atomically

_SCHEMA = {
    "offset": pl.Int64,
    "user": pl.Int64,
    "item": pl.Int64,
    "timestamp": pl.Int64,
    "label": pl.Float32,
    "probability": pl.Float64,
    "ranker_probability": pl.Float64,
}


class PrequentialLedger:
    """Predictions of a stream in a folder, one Parquet segment per ``flush``.

    Attributes:
        last_offset: offset of the last batch recorded, -1 where there is none.
    """

    def __init__(self, directory: Path) -> None:
        """Open the ledger of a run; what its folder ``predictions`` holds already is part of it."""
        self._folder = directory / "predictions"
        self._waiting: list[dict[str, NDArray[Any]]] = []
        segments = self._segments()
        self.last_offset = int(_read(segments[-1])["offset"][-1]) if segments else -1

    def append(
        self,
        offset: int,
        users: ArrayLike,
        items: ArrayLike,
        timestamps: ArrayLike,
        labels: ArrayLike,
        probabilities: ArrayLike,
        ranker_probabilities: ArrayLike | None = None,
    ) -> None:
        """Record the n events of one micro-batch; they stay in memory until ``flush``.

        Args:
            offset: of the batch, above that of every batch recorded before.
            users: int64 ``[n]``, rows of the user vocabulary.
            items: int64 ``[n]``, rows of the item vocabulary.
            timestamps: int64 ``[n]``, seconds.
            labels: float ``[n]``, in [0, 1].
            probabilities: float ``[n]``, in [0, 1], as predicted before any of these events was learnt from.
            ranker_probabilities: float ``[n]``, those of the ranker that stands behind the retriever, if there is one.

        Raises:
            TrainingError: the offset was recorded already, or a probability is not one.
        """
        if offset <= self.last_offset:
            raise TrainingError(
                f"The events at offset {offset} come after those at {self.last_offset} in the ledger {self._folder}, "
                f"but every event is recorded once; go on behind it, or cut it back with truncate({offset})."
            )
        # Copied, for the caller may use its arrays again before they are written.
        rows = {
            "offset": np.full(np.size(labels), offset),
            "user": np.array(users, dtype=np.int64),
            "item": np.array(items, dtype=np.int64),
            "timestamp": np.array(timestamps, dtype=np.int64),
            "label": np.array(labels, dtype=np.float32),
            "probability": np.array(probabilities, dtype=np.float64),
            "ranker_probability": np.full(np.size(labels), np.nan)
            if ranker_probabilities is None
            else np.array(ranker_probabilities, dtype=np.float64),
        }
        _check_probabilities(rows["probability"], offset)
        if ranker_probabilities is not None:
            _check_probabilities(rows["ranker_probability"], offset)
        self._waiting.append(rows)
        self.last_offset = offset

    def flush(self) -> None:
        """Write what is in memory as one segment, named by its first offset; call it with every checkpoint."""
        frame = _frame(self._waiting)
        if len(frame):
            self._write(frame)
        self._waiting = []

    def truncate(self, offset: int) -> None:
        """Forget everything recorded from ``offset`` on, on disk too: the first step after a restart."""
        self._waiting = [rows for rows in self._waiting if (rows["offset"] < offset).all()]
        for segment in self._segments():
            frame = _read(segment)
            kept = frame.filter(pl.col("offset") < offset)
            if not len(kept):
                segment.unlink()
            elif len(kept) < len(frame):
                self._write(kept)
        table = self.table()
        self.last_offset = int(table["offset"][-1]) if len(table) else -1

    def table(self) -> pl.DataFrame:
        """All events in order.

        Columns: ``offset`` (of the batch), ``user``, ``item``, ``timestamp`` (int64), ``label`` (float32),
        ``probability`` and ``ranker_probability`` (float64; null where there was no ranker).
        """
        return pl.concat([*map(_read, self._segments()), _frame(self._waiting)])

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.parquet"))

    def _write(self, frame: pl.DataFrame) -> None:
        with write_atomically(self._folder / f"{frame['offset'][0]:015d}.parquet") as temporary:
            frame.write_parquet(temporary)


def _read(segment: Path) -> pl.DataFrame:
    with explain_read_failure(segment):
        frame = pl.read_parquet(segment)
    if frame.schema != _SCHEMA or not len(frame):
        raise DataError(f"{segment} is no segment of a prediction ledger; remove it.")
    return frame


def _frame(batches: list[dict[str, NDArray[Any]]]) -> pl.DataFrame:
    if not batches:
        return pl.DataFrame(schema=_SCHEMA)
    columns = {name: np.concatenate([rows[name] for rows in batches]) for name in _SCHEMA}
    return pl.DataFrame(columns, schema=_SCHEMA).with_columns(pl.col("ranker_probability").fill_nan(None))


def _check_probabilities(values: NDArray[Any], offset: int) -> None:
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise TrainingError(
            f"Event {row} (counted from 0) of the batch at offset {offset} was given {values[row]} as its probability; "
            "lower the learning rate or check the inputs."
        )
