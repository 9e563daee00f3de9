from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recascade.data.schema import check_interactions, check_keys, interaction_findings, scan
from recascade.errors import DataError

GOOD = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2], "rating": [1.0, 2.0]})


def scanned(frame: pl.DataFrame, folder: Path) -> pl.LazyFrame:
    frame.write_parquet(folder / "interactions.parquet")
    return scan(folder / "interactions.parquet", "interactions")


def test_harmless_differences_of_type_are_evened_out(tmp_path: Path) -> None:
    frame = GOOD.with_columns(user_id=pl.Series([7, 8]), timestamp=pl.col("timestamp").cast(pl.Int32))
    schema = scanned(frame, tmp_path).collect_schema()
    assert (schema["user_id"], schema["timestamp"]) == (pl.String, pl.Int64)
    assert scanned(frame, tmp_path).collect()["user_id"].to_list() == ["7", "8"]


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (
            GOOD.rename({"user_id": "userid"}),
            "has no column 'user_id', which interactions need; it has userid, item_id",
        ),
        (GOOD.rename({"user_id": "userid"}), "Did you mean 'userid'?"),
        (GOOD.with_columns(item_id=pl.Series([1.5, 2.5])), "Column 'item_id' of .* has type Float64; identifiers must"),
        (
            GOOD.with_columns(timestamp=pl.Series(["a", "b"])),
            "Column 'timestamp' of .* has type String; it must be an int",
        ),
        (GOOD.with_columns(timestamp=pl.Series([1.0, 2.0])), "import canonical SRC DST' converts"),
        (GOOD.drop("timestamp"), "neither 'timestamp' nor 'position', so its events have no order"),
    ],
)
def test_what_cannot_be_used_is_named(frame: pl.DataFrame, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        scanned(frame, tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 10, 0.5, 0.99])
def test_cut_off_files_are_named(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    GOOD.write_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DataError, match=r"interactions.parquet is not a complete Parquet file .*cut off or damaged"):
        scan(path, "interactions")
    with pytest.raises(DataError, match=r"There is no file .*absent.parquet"):
        scan(tmp_path / "absent.parquet", "interactions")


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("user_id", ["a", None], "in 1 row, first in row 2 .counted from 1., user_id is null"),
        ("timestamp", [-1, -1], "in 2 rows, first in row 1 .counted from 1., timestamp is negative"),
        ("timestamp", [1, 1_700_000_000_000], "suggests milliseconds"),
        ("position", [0, -1], "position is negative"),
    ],
)
def test_impossible_values_are_named_with_column_and_row(column, values, sentence, tmp_path: Path) -> None:
    frame = scanned(GOOD.with_columns(pl.Series(column, values)), tmp_path)
    with pytest.raises(DataError, match=sentence):
        check_interactions(frame, tmp_path)


def test_what_is_only_odd_is_a_warning(tmp_path: Path) -> None:
    frame = scanned(GOOD.with_columns(rating=pl.Series([1.0, float("nan")])), tmp_path)
    check_interactions(frame, tmp_path)
    (finding,) = interaction_findings(frame)
    assert (finding.severity, finding.column) == ("warning", "rating")
    assert "in 1 row, first in row 2" in finding.sentence


def test_keys_must_be_unique(tmp_path: Path) -> None:
    check_keys(pl.LazyFrame({"item_id": ["x", "y"]}), "items", tmp_path)
    with pytest.raises(DataError, match="item_id 'y' stands in 2 rows"):
        check_keys(pl.LazyFrame({"item_id": ["x", "y", "y"]}), "items", tmp_path)
    with pytest.raises(DataError, match="item_id is null"):
        check_keys(pl.LazyFrame({"item_id": ["x", None]}), "items", tmp_path)
