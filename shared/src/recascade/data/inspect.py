"""What a data set holds, and what someone who trains on it should know first."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from recascade.data import schema
from recascade.data.counting import distinct_values
from recascade.data.dataset import Dataset
from recascade.data.filters import ordered_only
from recascade.data.log_summary import LogSummary, summarise
from recascade.data.schema import Finding

# Our choice: among fewer tied neighbours an ascending order may be chance; above this share it is not.
_ENOUGH_TIES = 20
_ASCENDING = 0.9


@dataclass(frozen=True)
class TableSummary:
    """One file: its rows, and for each column its type and number of nulls."""

    name: str
    rows: int
    columns: dict[str, tuple[str, int]]


@dataclass(frozen=True)
class Inspection:
    """The tables of a data set, its log (None for a set without users), and what was found wrong or noteworthy."""

    tables: list[TableSummary]
    log: LogSummary | None
    findings: list[Finding] = field(default_factory=list)


def inspect(dataset: Dataset) -> Inspection:
    """Read a data set and describe it; the log is never held whole.

    Raises:
        DataError: a file is damaged, or lacks a required column.
    """
    tables = [_table(dataset, name) for name in dataset.tables]
    if "interactions" not in dataset.tables:
        return Inspection(tables, None)
    with schema.explain_read_failure(dataset.table_path("interactions")):
        log = dataset.interactions()
        findings = schema.interaction_findings(log)
        events = next(table.rows for table in tables if table.name == "interactions")
        summary = summarise(ordered_only(log.drop_nulls(["user_id", "item_id"])), events)
        findings += _order_findings(dataset, summary)
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


def _order_findings(dataset: Dataset, log: LogSummary) -> list[Finding]:
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
    if log.backward:
        sentence = f"position contradicts timestamp in {log.backward:,} places: a later position has an earlier time."
        findings.append(Finding("error", "interactions", "position", sentence))
    if log.midnights:
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
        present = distinct_values(log.drop_nulls(key), key).to_frame()
        count = len(present.join(known.to_frame(), on=key, how="anti"))
        if count:
            sentence = f"{count:,} {table} of the interactions are not in {table}.parquet; their features are unknown."
            findings.append(Finding("warning", table, key, sentence))
    return findings
