"""Parquet folders that are canonical, or nearly: other column names, dates, numeric identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables, identifiers_to_text, rename_columns, times_to_seconds
from recascade.data.dataset import TABLES
from recascade.data.schema import explain_read_failure
from recascade.errors import DataError


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open a folder with ``interactions.parquet`` and perhaps ``items`` and ``users.parquet``, or one Parquet file.

    Instead of ``interactions.parquet`` there may be a folder of that name, or only part files at any depth, as Spark,
    Ray and others write them; they are read in the order of their names.

    Args:
        source: the folder, or the file of events alone.
        options: ``user``, ``item``, ``timestamp``, ``time_unit``.
        scratch: not used.

    Raises:
        DataError: there is no such file, a column is missing or of an impossible type, or parts differ in columns.
    """
    folder = source if source.is_dir() else source.parent
    log = folder / "interactions.parquet" if source.is_dir() else source
    events = rename_columns(_open(_parts(source, log)), options, log)
    frames = {"interactions": times_to_seconds(identifiers_to_text(events, log), options, log)}
    for table, key, option in (("items", "item_id", "item"), ("users", "user_id", "user")):
        path = folder / f"{table}.parquet"
        if source.is_dir() and path.is_file():
            with explain_read_failure(path):
                frame = pl.scan_parquet(path)
                columns = frame.collect_schema().names()
            named = options.get(option, key)
            if named in columns:
                frame = frame.rename({named: key})
            frames[table] = identifiers_to_text(frame, path)
    return Tables(frames, source=source.name)


def _parts(source: Path, log: Path) -> list[Path]:
    if log.is_file():
        return [log]
    if not source.exists():
        raise DataError(f"There is no file or folder {source}.")
    parts = sorted((log if log.is_dir() else source).rglob("*.parquet"))
    parts = [part for part in parts if part.stem not in TABLES]
    if not parts:
        raise DataError(f"There is no file {log}, and no other Parquet file in its place.")
    return parts


def _open(parts: list[Path]) -> pl.LazyFrame:
    first, *others = parts
    with explain_read_failure(first):
        columns = pl.read_parquet_schema(first)
    for part in others:
        with explain_read_failure(part):
            found = pl.read_parquet_schema(part)
        for name in {**columns, **found}:
            if columns.get(name) != found.get(name):
                raise DataError(
                    f"The parts differ: column {name!r} is {columns.get(name, 'absent')} in {first} and "
                    f"{found.get(name, 'absent')} in {part.name}; write them with one schema."
                )
    return pl.scan_parquet(parts, hive_partitioning=False)
