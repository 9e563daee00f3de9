from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import import_dataset
from recascade.data.dataset import Dataset
from recascade.errors import DataError

DAY = 1496275200  # 2017-06-01


def imported(folder: Path, frame: pl.DataFrame, **options: str) -> Dataset:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    frame.write_parquet(source / "interactions.parquet")
    return import_dataset("canonical", source, folder / "imported", options)


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([DAY, None]),
        pl.Series([float(DAY), None]),
        pl.Series([str(DAY), None]),
        pl.Series(["2017-06-01", None]),
        pl.Series([date(2017, 6, 1), None]),
        pl.Series([datetime(2017, 6, 1), None]),
        pl.Series([datetime(2017, 6, 1, 2, tzinfo=timezone(timedelta(hours=2))), None]),
    ],
)
def test_times_of_every_kind_become_seconds(times: pl.Series, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"], "timestamp": times})
    assert imported(tmp_path, frame).interactions().collect().rows() == [("1", "x", DAY), ("2", "y", None)]


def test_a_canonical_folder_comes_back_unchanged(tmp_path: Path, log: Path) -> None:
    data = import_dataset("canonical", log, tmp_path / "copy", name="named")
    assert data.name == "named"
    assert data.interactions().collect().equals(Dataset.open(log).interactions().collect())


def test_columns_are_renamed_in_all_tables_and_one_file_is_enough(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    events = pl.DataFrame({"customer": ["a"], "sku": [5], "at": [7]})
    events.write_parquet(source / "interactions.parquet")
    pl.DataFrame({"sku": [5], "brand": ["b"]}).write_parquet(source / "items.parquet")
    options = {"user": "customer", "item": "sku", "timestamp": "at"}
    data = import_dataset("canonical", source, tmp_path / "folder", options)
    assert data.interactions().collect().rows(named=True) == [{"user_id": "a", "item_id": "5", "timestamp": 7}]
    assert data.items().collect().rows(named=True) == [{"item_id": "5", "brand": "b"}]
    alone = import_dataset("canonical", source / "interactions.parquet", tmp_path / "file", options)
    assert alone.tables == ["interactions"]


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    good = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2]})
    for frame, sentence in (
        (good.with_columns(timestamp=pl.Series([1.0, float("nan")])), "holds no time in 1 row, first nan in event 2"),
        (good.with_columns(item_id=pl.Series([1.5, 2.0])), "'item_id' of .* has type Float64"),
        (good.with_columns(timestamp=pl.Series([[1], [2]])), "has type List.Int64., which is no time"),
        (good.drop("user_id"), "has no column 'user_id'; it has item_id, timestamp"),
    ):
        with pytest.raises(DataError, match=sentence):
            imported(tmp_path, frame)
    path = tmp_path / "source" / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        import_dataset("canonical", tmp_path / "source", tmp_path / "imported")
    with pytest.raises(DataError, match="There is no file"):
        import_dataset("canonical", tmp_path / "nowhere", tmp_path / "imported")


def test_repeated_items_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": [1]}).write_parquet(source / "interactions.parquet")
    pl.DataFrame({"item_id": ["x", "x"]}).write_parquet(source / "items.parquet")
    with pytest.raises(DataError, match="item_id 'x' stands in 2 rows"):
        import_dataset("canonical", source, tmp_path / "imported")


@pytest.mark.parametrize("place", ["", "interactions.parquet", "date=2024-01-01"])
def test_part_files_equal_the_whole(place: str, tmp_path: Path, log: Path) -> None:
    whole = pl.read_parquet(log / "interactions.parquet")
    folder = tmp_path / "source" / place
    folder.mkdir(parents=True)
    whole.head(100).write_parquet(folder / "part-00000.parquet")
    whole.slice(100).select(reversed(whole.columns)).write_parquet(folder / "part-00001.parquet")
    (folder / "_SUCCESS").touch()
    pl.DataFrame({"item_id": ["x"]}).write_parquet(tmp_path / "source" / "items.parquet")
    data = import_dataset("canonical", tmp_path / "source", tmp_path / "imported")
    assert data.interactions().collect().equals(whole) and data.tables == ["interactions", "items"]


def test_parts_that_differ_are_refused(tmp_path: Path) -> None:
    good = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "timestamp": [1]})
    (tmp_path / "source").mkdir()
    good.write_parquet(tmp_path / "source" / "a.parquet")
    for other, sentence in (
        (good.drop("item_id"), "column 'item_id' is String in .*a.parquet and absent in b.parquet"),
        (good.cast({"timestamp": pl.Float64}), "column 'timestamp' is Int64 in .*a.parquet and Float64 in b.parquet"),
    ):
        other.write_parquet(tmp_path / "source" / "b.parquet")
        with pytest.raises(DataError, match=sentence):
            import_dataset("canonical", tmp_path / "source", tmp_path / "imported")
