"""Counts of the identifiers of a log, in memory that grows with the identifiers and not with the events."""

from __future__ import annotations

import polars as pl

ROWS_AT_A_TIME = 4_000_000


def count_values(log: pl.LazyFrame, column: str) -> pl.DataFrame:
    """How often each value of a column occurs.

    Grouping the whole log would not do: where groups are many, Polars' streaming engine keeps memory by the rows it
    has read (2.6 GB for 2 million users in 100 million events, version 2.1). So stretches of the log are grouped, and
    then their counts.

    Args:
        log: the table.
        column: without nulls.

    Returns:
        ``column``, ascending, and ``len`` (int64).
    """
    counts = _grouped([log.select(column, len=pl.lit(1, dtype=pl.Int64)).head(0).collect()], column)
    waiting: list[pl.DataFrame] = []
    for batch in log.select(column).collect_batches(chunk_size=ROWS_AT_A_TIME, engine="streaming"):
        waiting.append(_grouped([batch.with_columns(len=pl.lit(1, dtype=pl.Int64))], column))
        # Putting together costs by what is known already, so it waits until as much is new.
        if sum(map(len, waiting)) >= max(ROWS_AT_A_TIME, len(counts)):
            counts, waiting = _grouped([counts, *waiting], column), []
    return _grouped([counts, *waiting], column).sort(column)


def distinct_values(log: pl.LazyFrame, column: str) -> pl.Series:
    """The values of a column (without nulls), ascending."""
    return count_values(log, column)[column]


def _grouped(counts: list[pl.DataFrame], column: str) -> pl.DataFrame:
    rows = pl.concat(counts).lazy()
    return rows.group_by(column).agg(pl.col("len").sum()).collect(engine="streaming")
