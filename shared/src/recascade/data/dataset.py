"""A data set on disk: a folder of canonical Parquet tables, opened lazily."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from recascade.data import schema
from recascade.errors import DataError, did_you_mean
from recascade.files import read_json, sha256_of, write_json

MANIFEST = "dataset.json"
TABLES = ("interactions", "items", "users", "lists", "impressions")


@dataclass(frozen=True)
class Dataset:
    """A folder with at least one of ``interactions``, ``lists`` and ``impressions`` as Parquet.

    Attributes:
        path: the folder.
        name: what it is called in results; the manifest's name, or that of the folder.
        facts: the content of ``dataset.json`` (adapter, source, terms, counts); empty where there is none.
    """

    path: Path
    name: str
    facts: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Open a folder; no table is read yet.

        Raises:
            DataError: there is no such folder, or it holds no canonical table.
        """
        folder = Path(path)
        if not folder.is_dir():
            if folder.exists():
                raise DataError(
                    f"{folder} is a file; a data set is a folder with interactions.parquet. "
                    "Make one with 'recascade data import ADAPTER SRC DST'."
                )
            siblings = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
            hint = did_you_mean(folder.name, siblings) if siblings else ""
            raise DataError(f"There is no folder {folder}.{hint if hint.startswith(' Did') else ''}")
        if not any((folder / f"{table}.parquet").is_file() for table in ("interactions", "lists", "impressions")):
            raise DataError(
                f"{folder} holds no data set: it has no interactions.parquet, lists.parquet or impressions.parquet. "
                "Make one with 'recascade data import ADAPTER SRC DST'."
            )
        facts: dict[str, Any] = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
        return cls(folder, str(facts.get("name") or folder.resolve().name), facts)

    @property
    def synthetic(self) -> bool:
        """Whether the events were generated: never a base for claims about quality."""
        return bool(self.facts.get("synthetic", "synthetic" in self.name))

    @property
    def terms(self) -> str:
        """The terms of use as far as known, or the empty string."""
        return str(self.facts.get("terms", ""))

    def table_path(self, table: str) -> Path:
        """Where a table lies, or would lie."""
        return self.path / f"{table}.parquet"

    @property
    def tables(self) -> list[str]:
        """The canonical tables that are there."""
        return [table for table in TABLES if self.table_path(table).is_file()]

    def interactions(self) -> pl.LazyFrame:
        """The events: user_id, item_id (string), timestamp (int64 seconds), position (int32) and further columns."""
        if "interactions" not in self.tables:
            raise DataError(
                f"Data set {self.name!r} has no interactions.parquet, only {', '.join(self.tables)}: "
                "it holds no user histories."
            )
        return schema.scan(self.table_path("interactions"), "interactions")

    def items(self) -> pl.LazyFrame | None:
        """The catalogue, one row per item_id, or None where the set has none."""
        return schema.scan(self.table_path("items"), "items") if "items" in self.tables else None

    def users(self) -> pl.LazyFrame | None:
        """User features, one row per user_id, or None where the set has none."""
        return schema.scan(self.table_path("users"), "users") if "users" in self.tables else None

    def lists(self) -> pl.LazyFrame:
        """Judged lists of queries and documents (query_id, doc_id, label, features, fold).

        Raises:
            DataError: the set has no such table.
        """
        if "lists" not in self.tables:
            raise DataError(f"Data set {self.name!r} has no lists.parquet, only {', '.join(self.tables)}.")
        path = self.table_path("lists")
        with schema.explain_read_failure(path):
            frame = pl.scan_parquet(path)
            frame.collect_schema()
        return frame

    def has(self, column: str) -> bool:
        """Whether the interactions have this column."""
        return column in self.interactions().collect_schema()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and bytes of the canonical tables, in hexadecimal.

        It is kept in ``fingerprint.json`` beside them (where the folder can be written) with each file's size and
        time of change, so that a large set is read only once.
        """
        files = [self.table_path(table) for table in self.tables]
        state = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
        cache = self.path / "fingerprint.json"
        if cache.is_file():
            known = read_json(cache)
            if known.get("files") == state:
                return str(known["sha256"])
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.name}:{sha256_of(file)}\n".encode())
        fingerprint = digest.hexdigest()
        if os.access(self.path, os.W_OK):
            write_json(cache, {"sha256": fingerprint, "files": state})
        return fingerprint
