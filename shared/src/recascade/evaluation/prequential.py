"""The ledger of prequential predictions: every event of a stream, with the probability given before it was learnt from.

Prequential evaluation (Dawid, 1984; "test, then train" in the stream literature) needs each event exactly once, also
after a crash: the ledger is cut back to the offset of the learner's checkpoint before the learner goes on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from recascade.data.schema import explain_read_failure
from recascade.errors import DataError, TrainingError
from recascade.files import write_atomically

SCHEMA = {
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
        self._waiting: list[pl.DataFrame] = []
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
        columns = [np.full(np.shape(labels), offset), users, items, timestamps, labels, probabilities]
        frame = pl.DataFrame(
            {
                name: pl.Series(name, np.asarray(values), dtype=dtype)
                for (name, dtype), values in zip(SCHEMA.items(), columns, strict=False)
            }
        )
        if ranker_probabilities is not None:
            frame = frame.with_columns(
                pl.Series("ranker_probability", np.asarray(ranker_probabilities), dtype=pl.Float64)
            )
        for name in frame.columns[5:]:
            if not frame[name].is_between(0, 1).all():
                row = int((~frame[name].is_between(0, 1)).arg_max() or 0)
                raise TrainingError(
                    f"The {name} of event {row} (counted from 0) of the batch at offset {offset} is "
                    f"{frame[name][row]}, which is no probability; lower the learning rate or check the inputs."
                )
        self._waiting.append(frame)
        self.last_offset = offset

    def flush(self) -> None:
        """Write what is in memory as one segment, named by its first offset; call it with every checkpoint."""
        frame = _joined(self._waiting)
        self._waiting = []
        if len(frame):
            self._write(frame)

    def truncate(self, offset: int) -> None:
        """Forget everything recorded from ``offset`` on, on disk too: the first step after a restart."""
        self._waiting = [frame for frame in self._waiting if len(frame) and frame["offset"][0] < offset]
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
        """All events in order: ``offset``, ``user``, ``item``, ``timestamp`` (int64), ``label`` (float32),
        ``probability`` and, where any batch had it, ``ranker_probability`` (float64; null where a batch had none)."""
        return _joined([*map(_read, self._segments()), *self._waiting])

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.parquet"))

    def _write(self, frame: pl.DataFrame) -> None:
        with write_atomically(self._folder / f"{frame['offset'][0]:015d}.parquet") as temporary:
            frame.write_parquet(temporary)


def _read(segment: Path) -> pl.DataFrame:
    with explain_read_failure(segment):
        frame = pl.read_parquet(segment)
    if "offset" not in frame.columns or not len(frame):
        raise DataError(f"{segment} is no segment of a prediction ledger; remove it.")
    return frame


def _joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    if not frames:
        return pl.DataFrame(schema={name: dtype for name, dtype in SCHEMA.items() if name != "ranker_probability"})
    return pl.concat(frames, how="diagonal")
