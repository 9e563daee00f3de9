from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from recascade.data.dataset import Dataset

Rows = Sequence[tuple[str, str, int | None]]
WriteLog = Callable[..., Dataset]


@pytest.fixture
def write_log(tmp_path: Path) -> WriteLog:
    """Write a data set: ``write_log(rows or frame, items=frame, users=frame)``; rows are (user, item, timestamp)."""

    def write(events: Rows | pl.DataFrame, name: str = "written", **tables: pl.DataFrame) -> Dataset:
        folder = tmp_path / name
        folder.mkdir()
        if not isinstance(events, pl.DataFrame):
            schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
            events = pl.DataFrame(events, schema=schema, orient="row")
        events.write_parquet(folder / "interactions.parquet")
        for table, frame in tables.items():
            frame.write_parquet(folder / f"{table}.parquet")
        return Dataset.open(folder)

    return write


@pytest.fixture
def real_data() -> Callable[[str], Dataset]:
    """Open a real data set by name, or skip."""

    def find(name: str) -> Dataset:
        named = [Path(part) for part in os.environ.get("RECASCADE_DATA", "").split(os.pathsep) if part]
        for folder in (*named, Path(__file__).parents[4] / "shared" / "data"):
            if (folder / name).is_dir():
                return Dataset.open(folder / name)
        pytest.skip(f"the data set {name} is not on this machine")

    return find
