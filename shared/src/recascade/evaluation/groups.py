"""Groups of evaluated users: how active they are, how popular their targets, whether order among targets exists at
all."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.evaluation.requests import Targets

ACTIVITIES = ("low", "middle", "high")
POPULARITIES = ("tail", "middle", "head")


def describe(
    data: EncodedSplit, held_out: HeldOut, rows: NDArray[np.int64], targets: Targets
) -> dict[str, pl.Series | NDArray[np.int64]]:
    """The describing columns of ``Evaluation.per_user`` for the given rows of the part.

    ``activity`` are thirds of the users by history length (equal lengths stay together); ``popularity`` is the class
    of the median target (the less popular of the two middle ones) among items in order of training events: ``head``
    items hold a third of all training events, then ``middle``, then ``tail``, which also takes items without any.
    ``tied`` is true where a target carries the time stamp of the event before it, so that their order is a convention
    of the file and not a fact.
    """
    lengths = held_out.history_ends[rows] - data.events.offsets[held_out.users[rows]]
    return {
        "history_length": lengths.astype(np.int64),
        "targets": targets.counts,
        "activity": pl.Series(np.array(ACTIVITIES)[thirds(lengths)]),
        "popularity": pl.Series(np.array(POPULARITIES)[_target_popularity(data, targets)]),
        "tied": _tied(data, held_out, rows),
    }


def means(per_user: pl.DataFrame, metrics: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Per grouping and group the mean of each metric (users without it left out) and the number of users."""
    table = per_user.with_columns(
        tied=pl.when(pl.col("tied")).then(pl.lit("tied")).when(~pl.col("tied")).then(pl.lit("new time"))
    )
    result: dict[str, dict[str, dict[str, float]]] = {}
    for grouping, order in (("activity", ACTIVITIES), ("popularity", POPULARITIES), ("tied", ("tied", "new time"))):
        grouped = (
            table.drop_nulls(grouping)
            .group_by(grouping)
            .agg(pl.len().alias("users"), *(pl.col(metric).mean() for metric in metrics))
        )
        found = {str(row.pop(grouping)): row for row in grouped.to_dicts()}
        result[grouping] = {
            group: {name: value for name, value in found[group].items() if value is not None}
            for group in order
            if group in found
        }
    return result


def thirds(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 ``[N]``: 0, 1 or 2 for the lower, middle and upper third of the values; equal values stay together."""
    lower, upper = np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf")
    return np.searchsorted(np.array([lower, upper]), values, side="left").astype(np.int64)


def _target_popularity(data: EncodedSplit, targets: Targets) -> NDArray[np.int64]:
    counts = data.item_counts
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    total = max(int(counts.sum()), 1)
    classes = np.empty(len(counts) + 1, dtype=np.int64)
    # The extra last place is that of the unknown item, -1.
    classes[-1] = 0
    classes[order] = 2 - np.minimum(before * 3 // total, 2)
    classes[:-1][counts == 0] = 0
    popularity = np.append(counts, 0)[targets.items]
    sorted_items = targets.items[np.lexsort((popularity, targets.rows))]
    first = np.cumsum(targets.counts) - targets.counts
    result = np.zeros(len(targets.counts), dtype=np.int64)
    filled = targets.counts > 0
    median = (first + (targets.counts - 1) // 2)[filled]
    result[filled] = classes[sorted_items[median]]
    return result


def _tied(data: EncodedSplit, held_out: HeldOut, rows: NDArray[np.int64]) -> pl.Series:
    times = held_out.target_timestamps
    if not times.any():
        return pl.Series([None] * len(rows), dtype=pl.Boolean)
    users = held_out.users[rows]
    ends = held_out.history_ends[rows]
    filled = (ends > data.events.offsets[users]) & (np.diff(held_out.target_offsets)[rows] > 0)
    result = np.zeros(len(rows), dtype=np.bool_)
    first = held_out.target_offsets[rows][filled]
    result[filled] = times[first] == data.events.timestamps[ends[filled] - 1]
    return pl.Series(result)
