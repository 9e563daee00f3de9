"""Time windows, deduplication and k-core: the log is read in streams and in shards, and never held whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data import schema
from recascade.data.counting import distinct_values
from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.split_config import SplitConfig, parse_time
from recascade.data.user_shards import user_shards
from recascade.errors import DataError
from recascade.files import require_new_folder, write_folder_atomically, write_json

EVENTS_PER_BATCH = 4_000_000
_ROW, _STAYS = "row in the log", "stays"


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


def deduplicate(events: pl.LazyFrame, rule: str, scratch: Path) -> pl.LazyFrame:
    """Remove repeated events; what remains stays in the order of the log.

    The log is looked through in shards of whole users. What is held of it is one byte an event: whether it stays.

    Args:
        events: the interactions.
        rule: ``exact`` keeps the first of the events equal in user, item and timestamp, and all of unknown time;
            ``first`` or ``last`` keeps a user's first or last event with an item, in the order of time (among equals
            the first of the log); ``none`` keeps all.
        scratch: a folder for the shards of a log that is larger than its share of the memory.
    """
    if rule == "none":
        return events
    columns = events.collect_schema()
    order = "position" if "position" in columns else "timestamp"
    key = [name for name in ("user_id", "item_id", "timestamp") if name in columns]
    timed = pl.col("timestamp").is_not_null() if "timestamp" in columns else pl.lit(False)
    needed = events.select(*dict.fromkeys([*key, order])).with_row_index(_ROW)
    kept = np.zeros(_height(events), dtype=np.bool_)
    for shard in user_shards(needed, scratch):
        if rule == "exact":
            remaining = pl.concat([shard.filter(timed).unique(subset=key, keep="first"), shard.filter(~timed)])
        else:
            ranked = shard.sort(order, maintain_order=True, descending=rule == "last")
            remaining = ranked.unique(subset=["user_id", "item_id"], keep="first")
        kept[remaining[_ROW].to_numpy()] = True
    stays = pl.DataFrame({_STAYS: kept}).lazy()
    return pl.concat([events, stays], how="horizontal").filter(_STAYS).drop(_STAYS)


def k_core(events: pl.LazyFrame, user_minimum: int, item_minimum: int, scratch: Path) -> pl.LazyFrame:
    """Drop users and items with too few events until none is left that has too few.

    The largest such subset is unique, so the order of removal does not matter. Events are read once as two integers
    (8 bytes an event on the disk), over which the rounds of counting go; the identifiers that survive select the rows
    of the log when it is read again.

    Args:
        events: the interactions.
        user_minimum: events a user needs; 0 or 1 keeps all users.
        item_minimum: events an item needs.
        scratch: a folder for the integers.
    """
    if user_minimum <= 1 and item_minimum <= 1:
        return events
    ids = {column: distinct_values(events, column) for column in ("user_id", "item_id")}
    if not len(ids["user_id"]):
        return events
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        users, items = (Path(folder) / column for column in ids)
        coded = events.select(pl.col(column).cast(pl.Enum(known)).to_physical() for column, known in ids.items())
        with users.open("wb") as user_file, items.open("wb") as item_file:
            for batch in coded.collect_batches(chunk_size=EVENTS_PER_BATCH, engine="streaming"):
                user_file.write(batch["user_id"].to_numpy().astype(np.uint32, copy=False).data)
                item_file.write(batch["item_id"].to_numpy().astype(np.uint32, copy=False).data)
        survivors = core(np.memmap(users, np.uint32, "r"), np.memmap(items, np.uint32, "r"), user_minimum, item_minimum)
    for (column, known), kept in zip(ids.items(), survivors, strict=True):
        if not kept.all():
            chosen = known.filter(pl.Series(kept)).to_frame(column).lazy()
            events = events.join(chosen, on=column, how="semi", maintain_order="left")
    return events


def core(
    users: NDArray[np.integer], items: NDArray[np.integer], user_minimum: int, item_minimum: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The k-core of a bipartite graph given as edges, which may be memory maps: a stretch of them is held at a time.

    Args:
        users: ``[N]``, user code of each event, from 0.
        items: ``[N]``, item code of each event.
        user_minimum: events a user needs.
        item_minimum: events an item needs.

    Returns:
        Which user codes and which item codes stay, bool ``[U]`` and ``[I]``.
    """
    kept_users = np.ones(int(users.max(initial=0)) + 1, dtype=np.bool_)
    kept_items = np.ones(int(items.max(initial=0)) + 1, dtype=np.bool_)
    before = -1
    while True:
        user_counts = np.zeros(len(kept_users), dtype=np.int64)
        item_counts = np.zeros(len(kept_items), dtype=np.int64)
        for start in range(0, len(users), EVENTS_PER_BATCH):
            some_users, some_items = users[start : start + EVENTS_PER_BATCH], items[start : start + EVENTS_PER_BATCH]
            kept = kept_users[some_users] & kept_items[some_items]
            user_counts += np.bincount(some_users[kept], minlength=len(user_counts))
            item_counts += np.bincount(some_items[kept], minlength=len(item_counts))
        kept_users, kept_items = user_counts >= max(1, user_minimum), item_counts >= max(1, item_minimum)
        remaining = int(user_counts.sum())
        if remaining == before:
            return kept_users, kept_items
        before = remaining


def apply_filters(events: pl.LazyFrame, config: SplitConfig, scratch: Path) -> tuple[pl.LazyFrame, dict[str, int]]:
    """The steps of a configuration in its order: no order, time window, duplicates, k-core.

    Args:
        events: the interactions.
        config: its time window, deduplication and k-core are used.
        scratch: a folder for what does not fit the memory.

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
        ("dropped_duplicates", lambda frame: deduplicate(frame, config.deduplicate, scratch)),
        ("dropped_by_core", lambda frame: k_core(frame, config.user_min_events, config.item_min_events, scratch)),
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


def _height(events: pl.LazyFrame) -> int:
    return int(events.select(pl.len()).collect(engine="streaming").item())


Filters = Callable[[pl.LazyFrame, SplitConfig, Path], tuple[pl.LazyFrame, dict[str, int]]]
"""What ``apply_filters`` is: events, rules and a scratch folder to the remaining events and the counts of the steps."""


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
        kept, counts = filters(log, config, folder)
        if not counts["kept"]:
            raise DataError(nothing_left(dataset.name, counts))
        kept.sink_parquet(folder / "interactions.parquet")
        written = pl.scan_parquet(folder / "interactions.parquet")
        for table, frame in (("items", dataset.items()), ("users", dataset.users())):
            if frame is not None:
                key = schema.REQUIRED[table][0]
                present = distinct_values(written, key).to_frame()
                frame.join(present.lazy(), on=key, how="semi", maintain_order="left").sink_parquet(
                    folder / f"{table}.parquet"
                )
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
