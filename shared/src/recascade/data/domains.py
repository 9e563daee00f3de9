"""Domains in a log: a shop, a country, a department. Every item belongs to one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recascade.data.dataset import MANIFEST, Dataset
from recascade.errors import ConfigurationError, DataError, did_you_mean
from recascade.files import require_new_folder, write_folder_atomically, write_json

DOMAIN = "domain"


def check_target_domain(log: pl.LazyFrame, name: str, dataset: str) -> None:
    """Refuse a target domain that a log does not have.

    Raises:
        DataError: the log has no domains.
        ConfigurationError: it has others, with the nearest name.
    """
    if DOMAIN not in log.collect_schema():
        raise DataError(
            f"split.target_domain={name} needs a column {DOMAIN!r} in the interactions, which data set {dataset!r} has "
            "not; see 'recascade data domains'."
        )
    names = log.select(pl.col(DOMAIN).cast(pl.String).drop_nulls().unique()).collect(engine="streaming")[DOMAIN]
    if name not in names:
        raise ConfigurationError(f"split.target_domain={name} is no domain of {dataset!r}.{did_you_mean(name, names)}")


def with_domains(dataset: Dataset, column: str, destination: Path, keep: Sequence[str] = ()) -> Dataset:
    """Write a data set whose domains are the values of a column of its catalogue, as the departments of a shop.

    Args:
        dataset: with ``items.parquet``.
        column: of the items; those without a value are left out.
        destination: a folder that does not exist yet or is empty.
        keep: the only values to keep; none for all.

    Raises:
        DataError: there is no such column, or the destination is taken.
        ConfigurationError: a value of ``keep`` that does not occur, with the nearest one.
    """
    require_new_folder(destination)
    listed = dataset.items()
    columns = () if listed is None else tuple(listed.collect_schema())
    if listed is None or column not in columns:
        raise DataError(
            f"The items of data set {dataset.name!r} have no column {column!r}, which should say their domain."
            f"{did_you_mean(column, columns)}"
        )
    items = listed.with_columns(pl.col(column).cast(pl.String).alias(DOMAIN)).filter(pl.col(DOMAIN).is_not_null())
    values = items.select(pl.col(DOMAIN).unique()).collect(engine="streaming")[DOMAIN]
    for name in keep:
        if name not in values:
            raise ConfigurationError(f"No item has the {column} {name!r}.{did_you_mean(name, values)}")
    if keep:
        items = items.filter(pl.col(DOMAIN).is_in(list(keep)))
    log = dataset.interactions().drop(DOMAIN, strict=False)
    with write_folder_atomically(destination) as folder:
        items.sink_parquet(folder / "items.parquet")
        log.join(items.select("item_id", DOMAIN), on="item_id", maintain_order="left").sink_parquet(
            folder / "interactions.parquet"
        )
        if "users" in dataset.tables:
            shutil.copyfile(dataset.table_path("users"), folder / "users.parquet")
        facts = {
            "name": destination.resolve().name,
            "adapter": "domains",
            "source": f"{dataset.name} ({dataset.fingerprint[:16]}), domains from {column}",
            "terms": dataset.terms,
            "synthetic": dataset.synthetic,
        }
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)
