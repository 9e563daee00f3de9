"""Write the parts of a split in pieces of whole users, so that the log may be larger than the memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recascade.data.domains import DOMAIN
from recascade.data.fingerprint import TableDigest
from recascade.data.split_config import SplitConfig
from recascade.data.split_protocols import TEST, TRAIN, VALIDATION, Assignment, hold_out_ends, hold_out_time, units_of
from recascade.data.ties import order_events
from recascade.data.user_shards import user_shards
from recascade.errors import DataError

GIVEN_PART = "split_part"
"""Column of a log that carries its split: ``train``, ``history``, ``validation`` or ``test``."""
_HELD_OUT = {"validation": VALIDATION, "test": TEST}
_GIVEN = {"train": TRAIN, "history": VALIDATION, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class TrainingPart:
    """What is known once the parts are written: counts, the items of the training events (sorted), their digest."""

    counts: dict[str, int]
    trained_items: pl.Series
    training_digest: TableDigest


@dataclass(frozen=True)
class Targets:
    """What is known once the targets are settled.

    ``tied_share`` is the share of test targets at the same time as the last event before the test part.
    """

    counts: dict[str, int]
    tied_share: float
    digests: dict[str, TableDigest]


def write_parts(
    log: pl.LazyFrame, config: SplitConfig, times: dict[str, int], folder: Path, source: Path
) -> TrainingPart:
    """Order and assign the events, and write ``train.parquet`` and drafts of the held-out parts.

    The drafts wait for ``settle_targets``: which targets are cold is known only when all training events are.

    Args:
        log: the filtered interactions.
        config: the rules.
        times: the moments of a temporal split.
        folder: where to write.
        source: the file of the log, for error messages.
    """
    digest = TableDigest()
    trained = pl.Series("item_id", [], dtype=pl.String)
    counts = dict.fromkeys(("users", "train_events", "train_users"), 0)
    writers: dict[str, pq.ParquetWriter] = {}
    try:
        for piece in user_shards(log, folder):
            events = order_events(piece, config.ties, config.seed)
            users = np.cumsum((events["position"] == 0).to_numpy()) - 1
            _refuse_backward_times(events, users, source)
            assignment = _only_in_domain(_assign(events, users, config, times, source), events, users, config)
            events = events.drop("run").with_columns(
                target=pl.Series(assignment.target), tied=pl.Series(_tied(events, users, assignment))
            )
            training = events.filter(pl.Series(assignment.part == TRAIN)).drop("target", "tied")
            digest.update(training.select("user_id", "item_id", "timestamp", "group"))
            trained = pl.concat([trained, training["item_id"].unique()]).unique()
            counts["users"] += int(users[-1]) + 1
            counts["train_events"] += len(training)
            counts["train_users"] += training["user_id"].n_unique()
            parts = {"train": training}
            for name, code in _HELD_OUT.items():
                parts[f"{name}-draft"] = events.filter(pl.Series(assignment.part == code))
            for name, rows in parts.items():
                table = rows.to_arrow()
                if name not in writers:
                    writers[name] = pq.ParquetWriter(folder / f"{name}.parquet", table.schema, compression="zstd")
                writers[name].write_table(table)
    finally:
        for writer in writers.values():
            writer.close()
    return TrainingPart(counts, trained.sort(), digest)


def settle_targets(folder: Path, catalogue: pl.Series, cold_items: str) -> Targets:
    """Apply the rule for cold items and write ``validation.parquet`` and ``test.parquet`` from their drafts.

    Args:
        folder: where ``write_parts`` wrote.
        catalogue: identifiers of the items that can be recommended.
        cold_items: ``miss`` keeps targets outside the catalogue, ``drop`` takes them out of the targets.
    """
    counts: dict[str, int] = {}
    digests: dict[str, TableDigest] = {}
    tied_share = 0.0
    known = catalogue.to_frame("item_id").with_columns(known=pl.lit(True)).lazy()
    for name in _HELD_OUT:
        draft, final = folder / f"{name}-draft.parquet", folder / f"{name}.parquet"
        events = pl.scan_parquet(draft).join(known, on="item_id", how="left", maintain_order="left")
        is_known = pl.col("known").is_not_null()
        cold = events.select((pl.col("target") & ~is_known).sum()).collect(engine="streaming").item()
        if cold_items == "drop":
            events = events.with_columns(pl.col("target") & is_known)
        events.drop("known", "tied").sink_parquet(final)
        targets = events.filter("target").select("user_id", "item_id", "position", "tied")
        digests[name] = TableDigest()
        count = users = tied = 0
        last_user = None
        for rows in targets.collect_batches(engine="streaming"):
            digests[name].update(rows.select("user_id", "item_id", "position"))
            count += len(rows)
            tied += int(rows["tied"].sum())
            # Rows are sorted by user: one whose targets end a batch may begin the next.
            users += rows["user_id"].n_unique() - (rows["user_id"].first() == last_user)
            last_user = rows["user_id"].last()
        counts |= {
            f"{name}_events": int(pl.scan_parquet(final).select(pl.len()).collect().item()),
            f"{name}_users": users,
            f"{name}_targets": count,
            f"{name}_cold_targets": int(cold),
        }
        if name == "test" and count:
            tied_share = tied / count
        draft.unlink()
    return Targets(counts, tied_share, digests)


def _refuse_backward_times(events: pl.DataFrame, users: NDArray[np.int64], source: Path) -> None:
    times = events["timestamp"].to_numpy() if not events["timestamp"].null_count() else _known_times(events)
    backward = (users[1:] == users[:-1]) & (np.diff(times) < 0)
    if backward.any():
        row = int(np.flatnonzero(backward)[0]) + 1
        raise DataError(
            f"In {source}, 'position' contradicts 'timestamp' in {int(backward.sum()):,} places, first at user "
            f"{events['user_id'][row]!r}, item {events['item_id'][row]!r}: a later position has an earlier time. "
            "Correct one of the columns or leave 'position' out."
        )


def _known_times(events: pl.DataFrame) -> NDArray[np.int64]:
    """An unknown time counts as that of the event before it, or as the beginning of time."""
    known = pl.col("timestamp").forward_fill().over("user_id", order_by="position").fill_null(-1)
    return events.select(known)["timestamp"].to_numpy()


def _assign(
    events: pl.DataFrame, users: NDArray[np.int64], config: SplitConfig, times: dict[str, int], source: Path
) -> Assignment:
    if config.protocol == "given":
        return _given(events, users, source)
    label = "run" if config.protocol == "last-basket" else "group"
    units = units_of(users, events[label].to_numpy())
    if config.protocol == "temporal":
        return hold_out_time(
            users,
            units,
            events["timestamp"].to_numpy(),
            validation_time=times["validation_time"],
            test_time=times["test_time"],
            minimum_history=config.minimum_history,
            first_only=config.targets == "first",
        )
    by_ratio = config.protocol == "ratio"
    return hold_out_ends(
        users,
        units,
        validation_fraction=config.validation_fraction if by_ratio else None,
        test_fraction=config.test_fraction if by_ratio else None,
        minimum_history=config.minimum_history,
        first_only=by_ratio and config.targets == "first",
    )


def _given(events: pl.DataFrame, users: NDArray[np.int64], source: Path) -> Assignment:
    """The parts that the log names. Events of ``history`` stand before those of validation, but are no targets."""
    named = events[GIVEN_PART]
    wrong = ~named.is_in(list(_GIVEN)).fill_null(False)
    if wrong.any():
        raise DataError(
            f"In {source}, {GIVEN_PART!r} is {named.filter(wrong)[0]!r} for user "
            f"{events['user_id'].filter(wrong)[0]!r}; it must be one of {', '.join(_GIVEN)}."
        )
    places = {name: place for place, name in enumerate(_GIVEN)}
    order = named.replace_strict(places, return_dtype=pl.Int8).to_numpy()
    backward = np.flatnonzero((users[1:] == users[:-1]) & (np.diff(order) < 0))
    if len(backward):
        row = int(backward[0])
        raise DataError(
            f"In {source}, user {events['user_id'][row]!r} has an event of part {named[row + 1]!r} behind one of part "
            f"{named[row]!r}; each user's events must be in the order {', '.join(_GIVEN)}."
        )
    part = named.replace_strict(_GIVEN, return_dtype=pl.Int8).to_numpy()
    return Assignment(part, named.is_in(list(_HELD_OUT)).to_numpy())


def _only_in_domain(
    assignment: Assignment, events: pl.DataFrame, users: NDArray[np.int64], config: SplitConfig
) -> Assignment:
    """Targets of the target domain alone, and only of users who know it well enough."""
    if not config.target_domain:
        return assignment
    inside = (events[DOMAIN].cast(pl.String) == config.target_domain).fill_null(False).to_numpy()
    known = np.bincount(users[inside & (assignment.part == TRAIN)], minlength=int(users[-1]) + 1)
    return Assignment(assignment.part, assignment.target & inside & (known >= config.minimum_history)[users])


def _tied(events: pl.DataFrame, users: NDArray[np.int64], assignment: Assignment) -> NDArray[np.bool_]:
    """Which events are at the same time as their user's last event before the test part."""
    times = events["timestamp"].fill_null(-1).to_numpy()
    last_time = np.full(int(users[-1]) + 1, -1, dtype=np.int64)
    history = assignment.part != TEST
    last_time[users[history]] = times[history]  # rows are in order: what is assigned last stays
    tied: NDArray[np.bool_] = (times >= 0) & (times == last_time[users])
    return tied
