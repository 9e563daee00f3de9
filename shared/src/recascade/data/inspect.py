"""What a data set holds, and what someone who trains on it should know first."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data import schema
from recascade.data.dataset import Dataset
from recascade.data.filters import ordered_only
from recascade.data.schema import Finding

LENGTH_QUANTILES = {
    "shortest": 0.0,
    "quarter": 0.25,
    "median": 0.5,
    "three quarters": 0.75,
    "95 %": 0.95,
    "longest": 1.0,
}
# Our choice: among fewer tied neighbours an ascending order may be chance; above this share it is not.
_ENOUGH_TIES = 20
_ASCENDING = 0.9
_DAY = 86_400


@dataclass(frozen=True)
class TableSummary:
    """One file: its rows, and for each column its type and number of nulls."""

    name: str
    rows: int
    columns: dict[str, tuple[str, int]]


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
        duplicates: events equal to another one in user, item and timestamp.
        tied_share: share of neighbouring events of a user with equal timestamps.
        tied_ascending_share: share of those that stand in ascending order of the item identifier; 0.5 would be chance.
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


@dataclass(frozen=True)
class Inspection:
    """The tables of a data set, its log (None for a set without users), and what was found wrong or noteworthy."""

    tables: list[TableSummary]
    log: LogSummary | None
    findings: list[Finding] = field(default_factory=list)


def inspect(dataset: Dataset) -> Inspection:
    """Read a data set once and describe it. Only integer codes of the events are held in memory.

    Raises:
        DataError: a file is damaged, or lacks a required column.
    """
    tables = [_table(dataset, name) for name in dataset.tables]
    if "interactions" not in dataset.tables:
        return Inspection(tables, None)
    with schema.explain_read_failure(dataset.table_path("interactions")):
        log = dataset.interactions()
        findings = schema.interaction_findings(log)
        codes, item_ids = _codes(ordered_only(log.drop_nulls(["user_id", "item_id"])))
        events = next(table.rows for table in tables if table.name == "interactions")
        summary = _summarise(events, codes, item_ids)
        findings += _order_findings(dataset, summary, codes)
        findings += _catalogue_findings(dataset, log)
    return Inspection(tables, summary, findings)


def _table(dataset: Dataset, name: str) -> TableSummary:
    path = dataset.table_path(name)
    with schema.explain_read_failure(path):
        frame = pl.scan_parquet(path)
        types = frame.collect_schema()
        counted = frame.select(pl.len().alias(""), pl.all().null_count()).collect(engine="streaming").row(0)
    columns = {column: (str(dtype), nulls) for (column, dtype), nulls in zip(types.items(), counted[1:], strict=True)}
    return TableSummary(name, counted[0], columns)


def _codes(log: pl.LazyFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The events in order as integers: user, item (numbered in byte order of the identifier), timestamp."""
    ids = {name: log.select(pl.col(name).unique()).collect(engine="streaming")[name].sort() for name in _IDS}
    columns = log.collect_schema()
    order = "position" if "position" in columns else "timestamp"
    time = pl.col("timestamp") if "timestamp" in columns else pl.lit(None, dtype=pl.Int64).alias("timestamp")
    coded = [pl.col(name).cast(pl.Enum(ids[name])).to_physical() for name in _IDS]
    events = log.select(*coded, time, order=pl.col(order)).collect(engine="streaming")
    return events.sort("user_id", "order", maintain_order=True).drop("order"), ids["item_id"]


_IDS = ("user_id", "item_id")


def _summarise(events: int, codes: pl.DataFrame, item_ids: pl.Series) -> LogSummary:
    lengths = codes.group_by("user_id").len()["len"]
    ordered = len(codes)
    tied, ascending = _ties(codes, item_ids)
    first, last = codes["timestamp"].min(), codes["timestamp"].max()
    return LogSummary(
        events=events,
        ordered_events=ordered,
        users=len(lengths),
        items=len(item_ids),
        first_time=first if isinstance(first, int) else None,
        last_time=last if isinstance(last, int) else None,
        lengths={
            name: int(lengths.quantile(share, "nearest") or 0) for name, share in LENGTH_QUANTILES.items() if ordered
        },
        repeat_share=(ordered - codes.select(pl.struct("user_id", "item_id").n_unique()).item()) / max(1, ordered),
        duplicates=ordered - codes.select(pl.struct("user_id", "item_id", "timestamp").n_unique()).item(),
        tied_share=tied,
        tied_ascending_share=ascending,
    )


def _ties(codes: pl.DataFrame, item_ids: pl.Series) -> tuple[float, float]:
    users, items = codes["user_id"].to_numpy(), codes["item_id"].to_numpy()
    times = codes["timestamp"].fill_null(-1).to_numpy()
    neighbours = users[1:] == users[:-1]
    tied = neighbours & (times[1:] == times[:-1]) & (times[1:] >= 0)
    if not tied.any():
        return 0.0, 0.0
    ascending = max(_ascending_share(items, tied), _ascending_share(_numeric_rank(item_ids)[items], tied))
    return float(tied.sum() / neighbours.sum()), ascending


def _ascending_share(items: NDArray[np.integer], tied: NDArray[np.bool_]) -> float:
    different = tied & (items[1:] != items[:-1])
    return float((items[1:] > items[:-1])[different].mean()) if different.any() else 0.0


def _numeric_rank(item_ids: pl.Series) -> NDArray[np.int64]:
    """Identifiers that are numbers may be sorted as numbers: 9 before 10."""
    numbers = item_ids.cast(pl.Int64, strict=False)
    if numbers.null_count():
        return np.arange(len(item_ids))
    return numbers.to_numpy()


def _order_findings(dataset: Dataset, log: LogSummary, codes: pl.DataFrame) -> list[Finding]:
    findings = []

    def warn(column: str, sentence: str) -> None:
        findings.append(Finding("warning", "interactions", column, sentence))

    column = "position" if dataset.has("position") else "timestamp"
    missing = dataset.interactions().select(pl.col(column).null_count()).collect(engine="streaming").item()
    if missing:
        warn(column, f"{missing:,} events have no {column} and so no place in an order; splits leave them out.")
    if log.duplicates:
        warn(
            "item_id",
            f"{log.duplicates:,} events repeat another one's user, item and timestamp; deduplicate=exact drops them.",
        )
    known = codes.drop_nulls("timestamp")
    backward = known.select(((pl.col("timestamp").diff() < 0) & (pl.col("user_id").diff() == 0)).sum()).item()
    if backward:
        sentence = f"position contradicts timestamp in {backward:,} places: a later position has an earlier time."
        findings.append(Finding("error", "interactions", "position", sentence))
    times = known["timestamp"]
    if len(times) and (times % _DAY == 0).all():
        warn("timestamp", "All timestamps are midnights: they know the day only.")
    tied_pairs = log.tied_share * (log.ordered_events - log.users)
    if tied_pairs >= _ENOUGH_TIES and log.tied_ascending_share >= _ASCENDING:
        warn(
            "timestamp",
            f"{log.tied_share:.0%} of neighbouring events share a timestamp, and {log.tied_ascending_share:.0%} of "
            "these stand in ascending order of the item identifier: the file's order inside ties is how it was stored, "
            "not what happened. ties=file would let a model predict it; use ties=shuffle or ties=group.",
        )
    return findings


def _catalogue_findings(dataset: Dataset, log: pl.LazyFrame) -> list[Finding]:
    findings = []
    for table, frame in (("items", dataset.items()), ("users", dataset.users())):
        if frame is None:
            continue
        key = schema.REQUIRED[table][0]
        known = frame.select(key).collect(engine="streaming")[key]
        if known.n_unique() < len(known) or known.null_count():
            sentence = f"{key} is null or stands more than once in {table}.parquet; the first row of each is used."
            findings.append(Finding("warning", table, key, sentence))
        absent = log.select(pl.col(key).unique()).join(known.to_frame().lazy(), on=key, how="anti")
        count = absent.select(pl.len()).collect(engine="streaming").item()
        if count:
            sentence = f"{count:,} {table} of the interactions are not in {table}.parquet; their features are unknown."
            findings.append(Finding("warning", table, key, sentence))
    return findings
