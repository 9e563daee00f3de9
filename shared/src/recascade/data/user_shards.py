"""A log in shards of whole users: cut up on the disk in one pass where it is larger than its share of the memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recascade.data.counting import count_values
from recascade.data.memory import events_at_a_time

_SHARD = "user-shard"


def user_shards(log: pl.LazyFrame, scratch: Path) -> Iterator[pl.DataFrame]:
    """The events in shards of whole users: shards in the byte order of the user identifiers, rows as in the log.

    A log that fits is one shard. A larger one is read twice, to count each user's events and to cut it up; the shards
    lie on the disk until they are taken. So the cost grows with the length of the log, whatever its order.

    Args:
        log: events with user_id.
        scratch: a folder for the shards; they need about the room of the log.

    Yields:
        The columns of the log; a shard's users but its longest have less than ``events_at_a_time()`` rows together.
    """
    lengths = count_values(log, "user_id")
    shard_of_user = (lengths["len"].cum_sum() - 1) // events_at_a_time()
    last_users = lengths.group_by(shard_of_user.alias(_SHARD)).agg(pl.col("user_id").max()).sort(_SHARD)["user_id"]
    if len(last_users) <= 1:
        yield log.collect(engine="streaming")
        return
    folder = scratch / "user-shards"
    # A user's shard depends on the user alone, which Polars does not know of search_sorted by itself.
    number = pl.col("user_id").map_batches(last_users.search_sorted, return_dtype=pl.UInt32, is_elementwise=True)
    try:
        log.with_columns(number.alias(_SHARD)).sink_parquet(
            pl.PartitionBy(folder, key=_SHARD, include_key=False), compression="lz4", statistics=False, mkdir=True
        )
        for place in range(len(last_users)):
            shard = folder / f"{_SHARD}={place}"
            yield pl.concat([pl.read_parquet(file) for file in sorted(shard.iterdir())])
            shutil.rmtree(shard)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
