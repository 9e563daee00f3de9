"""Make a split, write it as a folder of Parquet files with a manifest, and open it again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data import schema
from recascade.data.dataset import Dataset
from recascade.data.filters import apply_filters, nothing_left
from recascade.data.fingerprint import split_fingerprint
from recascade.data.home import home
from recascade.data.split_config import SplitConfig, parse_time
from recascade.data.split_manifest import FORMAT, SplitManifest
from recascade.data.split_protocols import (
    TEST,
    TRAIN,
    VALIDATION,
    Assignment,
    hold_out_ends,
    hold_out_time,
    units_of,
)
from recascade.data.ties import order_events
from recascade.errors import DataError
from recascade.files import explain_write_failure, require_new_folder, write_folder_atomically

MANIFEST = "split.json"
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Split:
    """A split on disk: ``train``, ``validation`` and ``test.parquet``, ``split.json``, and the set's items and users.

    Each part has the columns of the log plus position (place among the user's kept events), group (events that stand
    at the same time and have no order under ``ties=group``; otherwise equal to position) and, in the held-out parts,
    target (whether the event is to be predicted). Rows are sorted by user_id, then position.
    """

    path: Path
    manifest: SplitManifest

    @classmethod
    def open(cls, path: Path | str) -> Split:
        """Open the folder of a split.

        Raises:
            DataError: there is no split there, or its manifest cannot be read.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            raise DataError(f"{folder} holds no split (no {MANIFEST}); make one with 'recascade data split'.")
        return cls(folder, SplitManifest.load(folder / MANIFEST))

    def part(self, name: str) -> pl.LazyFrame:
        """The events of ``train``, ``validation`` or ``test``."""
        path = self.path / f"{name}.parquet"
        with schema.explain_read_failure(path):
            frame = pl.scan_parquet(path)
            frame.collect_schema()
        return frame

    def items(self) -> pl.LazyFrame | None:
        """The catalogue file of the data set, or None."""
        return self._table("items")

    def users(self) -> pl.LazyFrame | None:
        """The user file of the data set, or None."""
        return self._table("users")

    def _table(self, table: str) -> pl.LazyFrame | None:
        path = self.path / f"{table}.parquet"
        return schema.scan(path, table) if path.is_file() else None


def make_split(dataset: Dataset, config: SplitConfig, destination: Path) -> Split:
    """Filter, order and split the interactions of a data set, and write the result to a new folder.

    Args:
        dataset: the data set.
        config: the rules.
        destination: a folder that does not exist yet or is empty.

    Raises:
        DataError: the interactions cannot be used, nothing is left after filtering, no user can be evaluated, or the
            folder is taken.
        ConfigurationError: a value of ``config`` is impossible.
    """
    config.check()
    require_new_folder(destination)
    path = dataset.table_path("interactions")
    log = dataset.interactions()
    with schema.explain_read_failure(path):
        schema.check_interactions(log, path)
        log, counts = apply_filters(_with_time(log, config, dataset), config)
        events = log.collect(engine="streaming")
    if not len(events):
        raise DataError(nothing_left(dataset.name, counts))
    events = order_events(events, config.ties, config.seed)
    users = _user_codes(events)
    times = _times(events, config)
    assignment = _assign(events, users, config, times)
    catalogue = _catalogue(events, assignment, dataset, config)
    cold = assignment.target & ~events["item_id"].is_in(catalogue.implode()).to_numpy()
    if config.cold_items == "drop":
        assignment = Assignment(assignment.part, assignment.target & ~cold)
    counts |= _counts(events, users, assignment, cold, catalogue)
    if not counts["train_events"] or not counts["test_users"]:
        raise DataError(_nobody_sentence(dataset, config, counts))
    events = events.drop("run").with_columns(pl.Series("part", assignment.part), pl.Series("target", assignment.target))
    manifest = SplitManifest(
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        synthetic=dataset.synthetic,
        terms=dataset.terms,
        config=config,
        times=times,
        counts=counts,
        tied_target_share=_tied_share(events, users, assignment),
        fingerprint=split_fingerprint(config, events, catalogue),
    )
    _write(dataset, events, manifest, destination)
    return Split(destination, manifest)


def cached_split(dataset: Dataset, config: SplitConfig) -> Split:
    """The split of a data set by a configuration, made once and kept under ``home()/splits``.

    Its folder is named by the content of the data and the configuration, so that a change of either makes another.
    """
    config.check()
    key = json.dumps([FORMAT, dataset.fingerprint, config.to_json()], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = home() / "splits" / f"{dataset.name}-{digest}"
    if not (folder / MANIFEST).is_file():
        with write_folder_atomically(folder) as temporary:
            make_split(dataset, config, temporary)
    return Split.open(folder)


def _with_time(log: pl.LazyFrame, config: SplitConfig, dataset: Dataset) -> pl.LazyFrame:
    """A temporal split and a time window need times; events without one cannot be placed by them."""
    needs_time = config.protocol == "temporal" or config.since or config.until
    if not needs_time:
        return log
    if "timestamp" not in log.collect_schema():
        raise DataError(
            f"{dataset.table_path('interactions')} has no column 'timestamp', which split.protocol=temporal and time "
            "windows need; use split.protocol=leave-one-out, ratio or last-basket."
        )
    return log.filter(pl.col("timestamp").is_not_null())


def _user_codes(events: pl.DataFrame) -> NDArray[np.int64]:
    starts = (events["position"] == 0).to_numpy()
    return np.cumsum(starts) - 1


def _times(events: pl.DataFrame, config: SplitConfig) -> dict[str, int]:
    if config.protocol != "temporal":
        return {}
    test_time = parse_time(config.test_time, "split.test_time")
    validation_time = parse_time(config.validation_time, "split.validation_time")
    if test_time is None:
        test_time = _quantile(events["timestamp"], 1 - config.test_fraction)
    if validation_time is None:
        validation_time = _quantile(
            events["timestamp"].filter(events["timestamp"] < test_time),
            1 - config.validation_fraction / (1 - config.test_fraction),
        )
    if validation_time >= test_time:
        raise DataError(
            f"The validation period would begin at {validation_time}, not before the test period at {test_time}; "
            "set split.validation_time and split.test_time so that each period holds events."
        )
    return {"validation_time": validation_time, "test_time": test_time}


def _quantile(timestamps: pl.Series, share: float) -> int:
    if not len(timestamps):
        raise DataError("No event lies before the test period; set split.test_time later.")
    return int(timestamps.sort()[min(len(timestamps) - 1, int(len(timestamps) * share))])


def _assign(events: pl.DataFrame, users: NDArray[np.int64], config: SplitConfig, times: dict[str, int]) -> Assignment:
    timestamps = events["timestamp"].fill_null(0).to_numpy()
    backwards = (users[1:] == users[:-1]) & (np.diff(timestamps) < 0) & ~events["timestamp"].is_null().to_numpy()[1:]
    if backwards.any():
        row = int(np.flatnonzero(backwards)[0]) + 1
        raise DataError(
            f"Column 'position' contradicts 'timestamp' in {int(backwards.sum()):,} places, first at user "
            f"{events['user_id'][row]!r}, item {events['item_id'][row]!r}: a later position has an earlier time. "
            "Correct one of the columns or leave 'position' out."
        )
    label = "run" if config.protocol == "last-basket" else "group"
    units = units_of(users, events[label].to_numpy())
    if config.protocol == "temporal":
        return hold_out_time(
            users,
            units,
            timestamps,
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


def _catalogue(events: pl.DataFrame, assignment: Assignment, dataset: Dataset, config: SplitConfig) -> pl.Series:
    """The items that can be recommended, sorted by identifier."""
    trained = events["item_id"].filter(pl.Series(assignment.part == TRAIN)).unique()
    if config.catalogue == "training":
        return trained.sort()
    items = dataset.items()
    if items is None:
        raise DataError(
            f"split.catalogue=file needs items.parquet, which data set {dataset.name!r} has not; "
            "use split.catalogue=training."
        )
    listed = items.select("item_id").collect(engine="streaming")["item_id"].drop_nulls()
    return pl.concat([trained, listed]).unique().sort()


def _counts(
    events: pl.DataFrame,
    users: NDArray[np.int64],
    assignment: Assignment,
    cold: NDArray[np.bool_],
    catalogue: pl.Series,
) -> dict[str, int]:
    part, target = assignment
    counts = {"users": int(users[-1]) + 1, "items": events["item_id"].n_unique(), "catalogue_items": len(catalogue)}
    for name, code in PARTS.items():
        counts[f"{name}_events"] = int((part == code).sum())
        counts[f"{name}_users"] = len(np.unique(users[(part == code) & (target | (code == TRAIN))]))
    for name in ("validation", "test"):
        chosen = part == PARTS[name]
        counts[f"{name}_targets"] = int((chosen & target).sum())
        counts[f"{name}_cold_targets"] = int((chosen & cold).sum())
    counts["users_not_evaluated"] = counts["users"] - counts["test_users"]
    return counts


def _tied_share(events: pl.DataFrame, users: NDArray[np.int64], assignment: Assignment) -> float:
    """Share of test targets with the same time as the last event before the test part."""
    part, target = assignment
    timestamps = events["timestamp"].fill_null(-1).to_numpy()
    last_time = np.full(int(users[-1]) + 1, -1, dtype=np.int64)
    history = part != TEST
    last_time[users[history]] = timestamps[history]  # rows are ordered: the last assignment to a user stays
    tests = target & (part == TEST)
    tied = (timestamps[tests] >= 0) & (timestamps[tests] == last_time[users[tests]])
    return float(tied.mean()) if len(tied) else 0.0


def _write(dataset: Dataset, events: pl.DataFrame, manifest: SplitManifest, destination: Path) -> None:
    with write_folder_atomically(destination) as folder, explain_write_failure(destination):
        for name, code in PARTS.items():
            rows = events.filter(pl.col("part") == code).drop("part")
            (rows.drop("target") if name == "train" else rows).write_parquet(folder / f"{name}.parquet")
        for table in ("items", "users"):
            if table in dataset.tables:
                shutil.copyfile(dataset.table_path(table), folder / f"{table}.parquet")
        manifest.save(folder / MANIFEST)


def _nobody_sentence(dataset: Dataset, config: SplitConfig, counts: dict[str, int]) -> str:
    if not counts["train_events"]:
        return (
            f"No event of data set {dataset.name!r} falls into training: the validation period begins before the first "
            "event; set split.validation_time later."
        )
    if config.protocol == "temporal":
        need = f"an event in the test period and {config.minimum_history} before the validation period"
    else:
        need = f"two {'baskets' if config.protocol == 'last-basket' else 'events'} to hold out and "
        need += f"{max(1, config.minimum_history)} to train on"
    return (
        f"No user of data set {dataset.name!r} can be evaluated: each needs {need}. "
        "Lower split.minimum_history, or choose another protocol or period."
    )
