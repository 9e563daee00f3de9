"""The order of events, and what is done where the data give none: events of one user at the same time.

A *run* is a stretch of one user's events with one timestamp. The tie rule only ever permutes events inside a run.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.hashing import hash_strings, mix


def order_events(events: pl.DataFrame, ties: str, seed: int) -> pl.DataFrame:
    """Sort events by user (byte order of the identifier) and time, ties by the rule.

    Args:
        events: user_id, item_id, and timestamp or position or both; the order of rows is the order of the file. Where
            there are positions they are the order (they may know more than a timestamp that is only a day).
        ties: ``file`` keeps the order of positions, or else of rows; ``shuffle`` orders a run by a hash of
            (seed, user, item), so that an event's place never depends on the order of the file or on which other
            events are there; ``group`` does the same with a fixed seed and gives all events of a run one group
            number.
        seed: of ``shuffle``.

    Returns:
        The same columns with ``timestamp`` (null where unknown), ``position`` (int32, 0-based and without gaps within
        the user), ``run`` (int32) and ``group`` (int32): numbers within the user, ascending. Under ``shuffle`` and
        ``file`` the group of an event is its position, a group of its own.
    """
    if "timestamp" not in events.columns:
        events = events.with_columns(pl.lit(None, dtype=pl.Int64).alias("timestamp"))
    key = "position" if "position" in events.columns else "timestamp"
    events = events.sort("user_id", key, maintain_order=True)
    new_user = pl.col("user_id") != pl.col("user_id").shift(1)
    new_time = pl.col("timestamp").ne_missing(pl.col("timestamp").shift(1)) | pl.col("timestamp").is_null()
    marks = events.select(user=new_user.fill_null(True), run=(new_user | new_time).fill_null(True))
    user_starts = marks["user"].to_numpy()
    runs = np.cumsum(marks["run"].to_numpy())
    if ties != "file" and len(events):
        order = np.lexsort((_tie_hash(events, seed if ties == "shuffle" else 0), runs))
        events = events[order]
    position = _count_within(user_starts)
    run = runs - np.repeat(runs[user_starts], np.diff(np.append(np.flatnonzero(user_starts), len(runs))))
    return events.with_columns(
        pl.Series("position", position.astype(np.int32)),
        pl.Series("run", run.astype(np.int32)),
        pl.Series("group", (run if ties == "group" else position).astype(np.int32)),
    )


def _tie_hash(events: pl.DataFrame, seed: int) -> NDArray[np.uint64]:
    users = _hash_column(events["user_id"], seed)
    return mix(users ^ mix(_hash_column(events["item_id"], seed + 1)))


def _hash_column(ids: pl.Series, seed: int) -> NDArray[np.uint64]:
    """Hash the distinct identifiers once and look the rows up."""
    unique = ids.unique().sort()
    codes = ids.cast(pl.Enum(unique)).to_physical().to_numpy()
    hashes: NDArray[np.uint64] = hash_strings(unique, seed)[codes]
    return hashes


def _count_within(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """0, 1, 2 … from each start on."""
    index = np.arange(len(starts), dtype=np.int64)
    return index - np.maximum.accumulate(np.where(starts, index, 0))
