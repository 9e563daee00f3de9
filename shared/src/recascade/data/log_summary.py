"""The figures of a log: events, users, repeats, ties; added up over shards of whole users."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.counting import distinct_values
from recascade.data.user_shards import user_shards

LENGTH_QUANTILES = {
    "shortest": 0.0,
    "quarter": 0.25,
    "median": 0.5,
    "three quarters": 0.75,
    "95 %": 0.95,
    "longest": 1.0,
}
_DAY = 86_400


@dataclass(frozen=True)
class LogSummary:
    """The interactions.

    Attributes:
        events: rows.
        ordered_events: rows with a place in their user's order; all figures below count these only.
        users: distinct users.
        items: distinct items.
        first_time: earliest timestamp in seconds, or None where there are none.
        last_time: latest timestamp.
        lengths: events per user at the ``LENGTH_QUANTILES``.
        repeat_share: share of events whose user had an event with that item before.
        duplicates: events equal to another one in user, item and timestamp; none where the time is unknown.
        tied_share: share of neighbouring events of a user with equal timestamps.
        tied_ascending_share: share of those that stand in ascending order of the item identifier; 0.5 would be chance.
        backward: places where a later position has an earlier time.
        midnights: whether all times are midnights.
    """

    events: int
    ordered_events: int
    users: int
    items: int
    first_time: int | None
    last_time: int | None
    lengths: dict[str, int]
    repeat_share: float
    duplicates: int
    tied_share: float
    tied_ascending_share: float
    backward: int
    midnights: bool


def summarise(log: pl.LazyFrame, events: int) -> LogSummary:
    """The figures of the interactions that have a place in their user's order.

    A log that is larger than its share of the memory is cut up in the system's folder for temporary files.

    Args:
        log: those interactions.
        events: rows of the whole table.
    """
    item_ids = distinct_values(log, "item_id")
    numbers = _numeric_rank(item_ids)
    sums: Counter[str] = Counter()
    lengths: list[NDArray[np.int64]] = []
    times: list[int] = []
    with tempfile.TemporaryDirectory() as scratch:
        for codes in _coded_shards(log, item_ids, Path(scratch)):
            lengths.append(np.bincount(codes["user"]).astype(np.int64))
            sums.update(_sums(codes, numbers))
            times.extend(codes.select(pl.min("timestamp"), last=pl.max("timestamp")).row(0))
    known = [time for time in times if time is not None]
    all_lengths = pl.Series(np.concatenate(lengths))
    ordered = int(all_lengths.sum())
    return LogSummary(
        events=events,
        ordered_events=ordered,
        users=len(all_lengths),
        items=len(item_ids),
        first_time=min(known, default=None),
        last_time=max(known, default=None),
        lengths={
            name: int(all_lengths.quantile(share, "nearest") or 0)
            for name, share in LENGTH_QUANTILES.items()
            if ordered
        },
        repeat_share=sums["repeats"] / max(1, ordered),
        duplicates=sums["duplicates"],
        tied_share=sums["tied"] / max(1, sums["neighbours"]),
        tied_ascending_share=max(sums["ascending"], sums["ascending_numbers"]) / max(1, sums["different"]),
        backward=sums["backward"],
        midnights=0 < sums["times"] == sums["midnights"],
    )


def _coded_shards(log: pl.LazyFrame, item_ids: pl.Series, scratch: Path) -> Iterator[pl.DataFrame]:
    """The events in order as integers: user (numbered within the shard), item (in byte order), timestamp."""
    columns = log.collect_schema()
    order = pl.col("position" if "position" in columns else "timestamp")
    time = pl.col("timestamp") if "timestamp" in columns else pl.lit(None, dtype=pl.Int64).alias("timestamp")
    for shard in user_shards(log.select("user_id", "item_id", time, order=order), scratch):
        user_ids = shard["user_id"].unique().sort()
        codes = shard.select(
            pl.col("user_id").cast(pl.Enum(user_ids)).to_physical().alias("user"),
            pl.col("item_id").cast(pl.Enum(item_ids)).to_physical().alias("item"),
            "timestamp",
            "order",
        )
        yield codes.sort("user", "order", maintain_order=True).drop("order")


def _sums(codes: pl.DataFrame, numbers: NDArray[np.int64]) -> dict[str, int]:
    """What adds up over shards.

    Args:
        codes: user, item and timestamp, in order.
        numbers: int64 ``[I]``, each item's place when identifiers that are numbers are sorted as such.
    """
    users, items = codes["user"].to_numpy(), codes["item"].to_numpy()
    times = codes["timestamp"].fill_null(-1).to_numpy()
    neighbours = users[1:] == users[:-1]
    tied = neighbours & (times[1:] == times[:-1]) & (times[1:] >= 0)
    different = tied & (items[1:] != items[:-1])
    known = codes.drop_nulls("timestamp")
    backward = (pl.col("timestamp").diff() < 0) & (pl.col("user").cast(pl.Int64).diff() == 0)
    return {
        "neighbours": int(neighbours.sum()),
        "tied": int(tied.sum()),
        "different": int(different.sum()),
        "ascending": int((items[1:] > items[:-1])[different].sum()),
        "ascending_numbers": int((numbers[items[1:]] > numbers[items[:-1]])[different].sum()),
        "repeats": len(codes) - codes.select(pl.struct("user", "item").n_unique()).item(),
        "duplicates": len(known) - known.select(pl.struct("user", "item", "timestamp").n_unique()).item(),
        "backward": int(known.select(backward.sum()).item()),
        "times": len(known),
        "midnights": int(known.select((pl.col("timestamp") % _DAY == 0).sum()).item()),
    }


def _numeric_rank(item_ids: pl.Series) -> NDArray[np.int64]:
    """Identifiers that are numbers may be sorted as numbers: 9 before 10."""
    numbers = item_ids.cast(pl.Int64, strict=False)
    if numbers.null_count():
        return np.arange(len(item_ids))
    return numbers.to_numpy()
