"""Make a split, write it as a folder of Parquet files with a manifest, and open it again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from recascade.data import schema
from recascade.data.dataset import Dataset
from recascade.data.domains import check_target_domain
from recascade.data.filters import apply_filters, nothing_left
from recascade.data.fingerprint import split_fingerprint
from recascade.data.home import home
from recascade.data.split_config import SplitConfig, parse_time
from recascade.data.split_manifest import FORMAT, SplitManifest
from recascade.data.split_parts import GIVEN_PART, settle_targets, write_parts
from recascade.errors import ConfigurationError, DataError
from recascade.files import require_new_folder, write_folder_atomically

MANIFEST = "split.json"
_DAY = 86_400


@dataclass(frozen=True)
class Split:
    """A split on disk: ``train``, ``validation`` and ``test.parquet``, ``split.json``, and the set's items and users.

    Each part has the columns of the log plus position (place among the user's kept events), group (events that stand at
    the same time and have no order under ``ties=group``; otherwise equal to position) and, in the held-out parts,
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

    The log is worked through in pieces of whole users, so that it may be larger than the memory.

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
    return _make_split(dataset, _settled(dataset, config), destination)


def _settled(dataset: Dataset, config: SplitConfig) -> SplitConfig:
    """The rules, with those that the data set settles by itself because it carries its split."""
    if not dataset.has(GIVEN_PART):
        if config.protocol == "given":
            raise DataError(
                f"split.protocol=given needs a column {GIVEN_PART!r} in the interactions, which data set "
                f"{dataset.name!r} has not; choose another protocol."
            )
        return config
    if config.protocol not in ("leave-one-out", "given"):
        raise ConfigurationError(
            f"Data set {dataset.name!r} carries its split in the column {GIVEN_PART!r}, so split.protocol="
            f"{config.protocol} is not possible; leave split.protocol out."
        )
    return replace(config, protocol="given", ties="file")


def _make_split(dataset: Dataset, config: SplitConfig, destination: Path) -> Split:
    path = dataset.table_path("interactions")
    log = dataset.interactions()
    with schema.explain_read_failure(path), write_folder_atomically(destination) as folder:
        schema.check_interactions(log, path)
        log, counts = apply_filters(_with_time(log, config, dataset), config, folder)
        if not counts["kept"]:
            raise DataError(nothing_left(dataset.name, counts))
        if config.target_domain:
            check_target_domain(log, config.target_domain, dataset.name)
        times = _times(log, config)
        parts = write_parts(log, config, times, folder, path)
        if not parts.counts["train_events"]:
            raise DataError(
                f"No event of data set {dataset.name!r} falls into training: the validation period begins before the "
                "first event; set split.validation_time later."
            )
        catalogue = _catalogue(parts.trained_items, dataset, config)
        targets = settle_targets(folder, catalogue, config.cold_items)
        counts |= parts.counts | {"catalogue_items": len(catalogue)} | targets.counts
        if not counts["test_users"]:
            raise DataError(_nobody_sentence(dataset, config, counts["test_cold_targets"]))
        counts["users_not_evaluated"] = counts["users"] - counts["test_users"]
        for table in ("items", "users"):
            if table in dataset.tables:
                shutil.copyfile(dataset.table_path(table), folder / f"{table}.parquet")
        manifest = SplitManifest(
            dataset=dataset.name,
            dataset_fingerprint=dataset.fingerprint,
            synthetic=dataset.synthetic,
            terms=dataset.terms,
            config=config,
            times=times,
            counts=counts,
            tied_target_share=targets.tied_share,
            fingerprint=split_fingerprint(config, parts.training_digest, targets.digests, catalogue),
        )
        manifest.save(folder / MANIFEST)
    return Split(destination, manifest)


def cached_split(dataset: Dataset, config: SplitConfig) -> Split:
    """The split of a data set by a configuration, made once and kept under ``home()/splits``.

    Its folder is named by the content of the data and the configuration, so that a change of either makes another.
    """
    config.check()
    config = _settled(dataset, config)
    key = json.dumps([FORMAT, dataset.fingerprint, config.to_json()], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = home() / "splits" / f"{dataset.name}-{digest}"
    if not (folder / MANIFEST).is_file():
        # Another process may be making the same split; whoever ends later finds it there and keeps it.
        _make_split(dataset, config, folder)
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


def _times(log: pl.LazyFrame, config: SplitConfig) -> dict[str, int]:
    """The moments of a temporal split; those not given are quantiles of all timestamps."""
    if config.protocol != "temporal":
        return {}
    test_time = parse_time(config.test_time, "split.test_time")
    validation_time = parse_time(config.validation_time, "split.validation_time")
    if test_time is None or validation_time is None:
        if test_time is None:
            test_time = _quantile(log, 1 - config.test_fraction)
        if validation_time is None:
            earlier = log.filter(pl.col("timestamp") < test_time)
            validation_time = _quantile(earlier, 1 - config.validation_fraction / (1 - config.test_fraction))
    if validation_time >= test_time:
        raise DataError(
            f"The validation period would begin at {validation_time}, not before the test period at {test_time}; "
            "set split.validation_time and split.test_time so that each period holds events."
        )
    return {"validation_time": validation_time, "test_time": test_time}


def _quantile(log: pl.LazyFrame, share: float) -> int:
    """The time that this share of the events lies before; only the events of one day are held."""
    days = log.group_by(day=pl.col("timestamp") // _DAY).len().collect(engine="streaming").sort("day")
    if not len(days):
        raise DataError("No event lies before the test period; set split.test_time later.")
    ends = days["len"].cast(pl.Int64).cum_sum()
    place = min(int(ends[-1]) - 1, int(int(ends[-1]) * share))
    row = int(ends.search_sorted(place, side="right"))
    inside = log.filter(pl.col("timestamp") // _DAY == days["day"][row]).select("timestamp")
    times = inside.collect(engine="streaming")["timestamp"].sort()
    return int(times[place - int(ends[row]) + len(times)])


def _catalogue(trained_items: pl.Series, dataset: Dataset, config: SplitConfig) -> pl.Series:
    """The items that can be recommended, sorted by identifier."""
    if config.catalogue == "training":
        return trained_items
    items = dataset.items()
    if items is None:
        raise DataError(
            f"split.catalogue=file needs items.parquet, which data set {dataset.name!r} has not; "
            "use split.catalogue=training."
        )
    listed = items.select("item_id").collect(engine="streaming")["item_id"].drop_nulls()
    return pl.concat([trained_items, listed]).unique().sort()


def _nobody_sentence(dataset: Dataset, config: SplitConfig, cold_targets: int) -> str:
    if config.cold_items == "drop" and cold_targets:
        return (
            f"All {cold_targets:,} test targets of data set {dataset.name!r} are items outside the catalogue, and "
            "split.cold_items=drop leaves them out; use split.cold_items=miss or split.catalogue=file."
        )
    history = max(1, config.minimum_history)
    if config.target_domain:
        return (
            f"No user of data set {dataset.name!r} can be evaluated in domain {config.target_domain!r}: each needs a "
            f"held-out event and {config.minimum_history} training events there. Choose another domain or protocol."
        )
    if config.protocol == "given":
        return f"No event of data set {dataset.name!r} has the part 'test' in its column {GIVEN_PART!r}."
    if config.protocol == "temporal":
        need = f"an event in the test period and {config.minimum_history} before the validation period"
    else:
        need = (
            f"two {'baskets' if config.protocol == 'last-basket' else 'events'} to hold out and {history} to train on"
        )
    return (
        f"No user of data set {dataset.name!r} can be evaluated: each needs {need}. "
        "Lower split.minimum_history, or choose another protocol or period."
    )
