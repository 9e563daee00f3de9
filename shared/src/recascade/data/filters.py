"""Time windows, deduplication and k-core, lazily over Polars: the log is never held whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data import schema
from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.split_config import SplitConfig, parse_time
from recascade.errors import DataError
from recascade.files import require_new_folder, write_folder_atomically, write_json


def ordered_only(events: pl.LazyFrame) -> pl.LazyFrame:
    """Drop events without a place in their user's order: position null or, without positions, timestamp null."""
    key = "position" if "position" in events.collect_schema() else "timestamp"
    return events.filter(pl.col(key).is_not_null())


def time_window(events: pl.LazyFrame, since: int | None, until: int | None) -> pl.LazyFrame:
    """Keep events with ``since <= timestamp < until``; events of unknown time are dropped when either is given."""
    if since is not None:
        events = events.filter(pl.col("timestamp") >= since)
    if until is not None:
        events = events.filter(pl.col("timestamp") < until)
    return events


def deduplicate(events: pl.LazyFrame, rule: str) -> pl.LazyFrame:
    """Remove repeated events.

    Args:
        events: the interactions.
        rule: ``exact`` keeps the first of the events equal in user, item and timestamp; ``first`` or ``last`` keeps a
            user's first or last event with an item, in the order of time; ``none`` keeps all.
    """
    if rule == "none":
        return events
    columns = events.collect_schema()
    if rule == "exact":
        key = [name for name in ("user_id", "item_id", "timestamp") if name in columns]
        return events.unique(subset=key, keep="first", maintain_order=True)
    order = "position" if "position" in columns else "timestamp"
    ranked = events.sort(order, maintain_order=True, descending=rule == "last")
    return ranked.unique(subset=["user_id", "item_id"], keep="first", maintain_order=True)


def k_core(events: pl.LazyFrame, user_minimum: int, item_minimum: int) -> pl.LazyFrame:
    """Drop users and items with too few events until none is left that has too few.

    The largest such subset is unique, so the order of removal does not matter. Events are read once as two integer
    columns (8 bytes an event), counted in memory, and the identifiers that survive select the rows of the log when it
    is read again.

    Args:
        events: the interactions.
        user_minimum: events a user needs; 0 or 1 keeps all users.
        item_minimum: events an item needs.
    """
    if user_minimum <= 1 and item_minimum <= 1:
        return events
    user_ids = _distinct(events, "user_id")
    item_ids = _distinct(events, "item_id")
    codes = events.select(
        pl.col("user_id").cast(pl.Enum(user_ids)).to_physical(), pl.col("item_id").cast(pl.Enum(item_ids)).to_physical()
    ).collect(engine="streaming")
    kept_users, kept_items = core(codes["user_id"].to_numpy(), codes["item_id"].to_numpy(), user_minimum, item_minimum)
    del codes
    for column, ids, kept in (("user_id", user_ids, kept_users), ("item_id", item_ids, kept_items)):
        if not kept.all():
            survivors = ids.filter(pl.Series(kept)).to_frame(column).lazy()
            events = events.join(survivors, on=column, how="semi", maintain_order="left")
    return events


def core(
    users: NDArray[np.integer], items: NDArray[np.integer], user_minimum: int, item_minimum: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The k-core of a bipartite graph given as edges.

    Args:
        users: ``[N]``, user code of each event, from 0.
        items: ``[N]``, item code of each event.
        user_minimum: events a user needs.
        item_minimum: events an item needs.

    Returns:
        Which user codes and which item codes stay, bool ``[U]`` and ``[I]``.
    """
    kept_users = np.bincount(users) >= max(1, user_minimum)
    kept_items = np.bincount(items) >= max(1, item_minimum)
    while True:
        before = len(users)
        kept = kept_users[users] & kept_items[items]
        users, items = users[kept], items[kept]
        user_counts = np.bincount(users, minlength=len(kept_users))
        item_counts = np.bincount(items, minlength=len(kept_items))
        kept_users, kept_items = user_counts >= max(1, user_minimum), item_counts >= max(1, item_minimum)
        if len(users) == before:
            return kept_users, kept_items


def apply_filters(events: pl.LazyFrame, config: SplitConfig) -> tuple[pl.LazyFrame, dict[str, int]]:
    """The steps of a configuration in its order: no order, time window, duplicates, k-core.

    Returns:
        The remaining events, and how many each step that was on left out (keys ``read``, ``dropped_without_order``,
        ``dropped_by_time``, ``dropped_duplicates``, ``dropped_by_core``, ``kept``).
    """
    counts = {"read": _height(events)}
    remaining = counts["read"]
    steps = [
        ("dropped_without_order", ordered_only),
        (
            "dropped_by_time",
            lambda frame: time_window(frame, parse_time(config.since, "since"), parse_time(config.until, "until")),
        ),
        ("dropped_duplicates", lambda frame: deduplicate(frame, config.deduplicate)),
        ("dropped_by_core", lambda frame: k_core(frame, config.user_min_events, config.item_min_events)),
    ]
    for name, step in steps:
        after = step(events)
        if after is events:
            continue
        events = after
        height = _height(events)
        counts[name] = remaining - height
        remaining = height
    counts["kept"] = remaining
    return events, counts


def _distinct(events: pl.LazyFrame, column: str) -> pl.Series:
    return events.select(pl.col(column).unique()).collect(engine="streaming")[column].sort()


def _height(events: pl.LazyFrame) -> int:
    return int(events.select(pl.len()).collect(engine="streaming").item())


Filters = Callable[[pl.LazyFrame, SplitConfig], tuple[pl.LazyFrame, dict[str, int]]]
"""What ``apply_filters`` is: events and their rules to the remaining events and the counts of the steps."""


def write_filtered(
    dataset: Dataset, config: SplitConfig, destination: Path, filters: Filters = apply_filters
) -> Dataset:
    """Write the events that pass the filters of a configuration as a new data set.

    items.parquet and users.parquet keep the rows that still have events. Columns and their order stay.

    Args:
        dataset: where the events come from.
        config: its time window, deduplication and k-core are used.
        destination: a folder that does not exist yet or is empty.
        filters: computes what remains.

    Raises:
        DataError: nothing is left, or the destination is taken.
    """
    require_new_folder(destination)
    path = dataset.table_path("interactions")
    with schema.explain_read_failure(path), write_folder_atomically(destination) as folder:
        log = dataset.interactions()
        schema.check_interactions(log, path)
        kept, counts = filters(log, config)
        if not counts["kept"]:
            raise DataError(nothing_left(dataset.name, counts))
        kept.sink_parquet(folder / "interactions.parquet")
        written = pl.scan_parquet(folder / "interactions.parquet")
        for table, frame in (("items", dataset.items()), ("users", dataset.users())):
            if frame is not None:
                key = schema.REQUIRED[table][0]
                present = written.select(pl.col(key).unique())
                frame.join(present, on=key, how="semi", maintain_order="left").sink_parquet(folder / f"{table}.parquet")
        facts = {
            "name": destination.resolve().name,
            "adapter": "filter",
            "source": f"{dataset.name} ({dataset.fingerprint[:16]})",
            "terms": dataset.terms,
            "synthetic": dataset.synthetic,
            "filters": replace(config, minimum_history=0).filters,
            "counts": counts,
        }
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)


def nothing_left(name: str, counts: dict[str, int]) -> str:
    """The sentence for a data set of which no event passed the filters."""
    if not counts["read"]:
        return f"Data set {name!r} holds no events: its interactions.parquet has no rows."
    steps = [
        f"{key.replace('_', ' ')} {value:,}" for key, value in counts.items() if key.startswith("dropped") and value
    ]
    return (
        f"No event of data set {name!r} is left after filtering ({counts['read']:,} read, {', '.join(steps)}); "
        "use a wider time window or a smaller k-core."
    )
