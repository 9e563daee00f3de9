"""Parquet folders that are canonical, or nearly: other column names, dates, numeric identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables, identifiers_to_text, rename_columns, times_to_seconds
from recascade.data.schema import explain_read_failure
from recascade.errors import DataError


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open a folder with ``interactions.parquet`` and perhaps ``items`` and ``users.parquet``, or one Parquet file.

    Args:
        source: the folder, or the file of events alone.
        options: ``user``, ``item``, ``timestamp``, ``time_unit``.
        scratch: not used.

    Raises:
        DataError: there is no such file, or a column is missing or of an impossible type.
    """
    folder = source if source.is_dir() else source.parent
    log = folder / "interactions.parquet" if source.is_dir() else source
    if not log.is_file():
        raise DataError(f"There is no file {log}.")
    frames = {"interactions": times_to_seconds(identifiers_to_text(_open(log, options), log), options, log)}
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


def _open(path: Path, options: Mapping[str, str]) -> pl.LazyFrame:
    with explain_read_failure(path):
        frame = pl.scan_parquet(path)
        frame.collect_schema()
    return rename_columns(frame, options, path)
