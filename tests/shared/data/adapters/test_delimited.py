from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import ADAPTERS, import_dataset
from recascade.data.dataset import Dataset
from recascade.errors import ConfigurationError, DataError, RecascadeError

TEXT = "user_id,item_id,timestamp,rating\nu1,007,10,3.5\nu2,i2,20,\nu1,i2,30,4\n"
ROWS = [("u1", "007", 10, 3.5), ("u2", "i2", 20, None), ("u1", "i2", 30, 4.0)]


def imported(folder: Path, content: str | bytes, name: str = "log.csv", **options: str) -> Dataset:
    source = folder / name
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    return import_dataset("delimited", source, folder / "imported", options)


def rows(dataset: Dataset) -> list[tuple[object, ...]]:
    return dataset.interactions().collect().rows()


def test_a_plain_file(tmp_path: Path) -> None:
    data = imported(tmp_path, TEXT)
    assert rows(data) == ROWS
    assert data.facts == {
        "name": "imported",
        "adapter": "delimited",
        "source": "log.csv",
        "terms": "",
        "synthetic": False,
        "counts": {"interactions": 3, "users": 2, "items": 2},
    }
    assert {entry.name for entry in data.path.iterdir()} == {"interactions.parquet", "dataset.json"}


@pytest.mark.parametrize(
    ("content", "name", "options"),
    [
        (TEXT.replace(",", "\t"), "log.tsv", {}),
        (TEXT.replace(",", "|"), "log.txt", {"separator": "|"}),
        (gzip.compress(TEXT.encode(), mtime=0), "log.csv.gz", {}),  # the test's name holds the bytes
        (TEXT.partition("\n")[2], "log.csv", {"columns": "user_id,item_id,timestamp,rating"}),
        (TEXT.replace("user_id", "who").replace("item_id", "what"), "log.csv", {"user": "who", "item": "what"}),
        (TEXT.replace("20,", "20,?"), "log.csv", {"missing": "?"}),
        (TEXT.replace("10", "10000").replace("20", "20999").replace("30", "30000"), "log.csv", {"time_unit": "ms"}),
        (TEXT.replace("10", "10.7").replace("20", "2e1"), "log.csv", {}),
        (TEXT.rstrip("\n"), "log.csv", {}),
    ],
)
def test_the_same_events_in_other_shapes(
    content: str | bytes, name: str, options: dict[str, str], tmp_path: Path
) -> None:
    assert rows(imported(tmp_path, content, name, **options)) == ROWS


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("2017-06-01", {}),
        ("2017-06-01 00:00:00", {}),
        ("2017-06-01T00:00:00.000Z", {}),
        ("2017-06-01T02:00:00+02:00", {}),
        ("2017/06/01", {}),
        ("01.06.2017", {"time_format": "%d.%m.%Y"}),
    ],
)
def test_times_as_text(text: str, options: dict[str, str], tmp_path: Path) -> None:
    data = imported(tmp_path, f"user_id,item_id,timestamp\na,x,{text}\nb,y,\n", **options)
    assert data.interactions().collect()["timestamp"].to_list() == [1496275200, None]


def test_lines_in_order_need_no_times(tmp_path: Path) -> None:
    data = imported(tmp_path, "user_id,item_id\na,x\nb,x\na,y\n", order="file")
    assert rows(data) == [("a", "x", 0), ("b", "x", 0), ("a", "y", 1)]


def test_feature_files_come_along(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,brand\n007,Bond\n")
    pl.DataFrame({"user_id": ["u1"], "age": [30]}).write_parquet(tmp_path / "users.parquet")
    options = {"item": "sku", "items": str(tmp_path / "items.csv"), "users": str(tmp_path / "users.parquet")}
    data = imported(tmp_path, TEXT.replace("item_id", "sku"), **options)
    assert data.items().collect().rows() == [("007", "Bond")]
    assert data.users().collect().rows() == [("u1", 30)]


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (TEXT.replace("user_id", "userId"), {}, "has no column 'user_id'; it has userId, item_id"),
        (TEXT.replace("user_id", "userId"), {}, "Did you mean 'userId'? Name the right one with user=COLUMN"),
        (TEXT, {"timestamp": "tmiestamp"}, "Did you mean 'timestamp'?"),
        (TEXT, {"usr": "x"}, "Adapter 'delimited' has no option 'usr'. Did you mean 'user'?"),
        (TEXT, {"separator": "::"}, "separator=:: is not one character"),
        (TEXT, {"time_unit": "h"}, "time_unit=h is not possible"),
        (TEXT, {"order": "time"}, "order=time is not possible"),
        (TEXT, {"columns": "user_id,item_id"}, "has 4 columns, but columns= names 2"),
        (TEXT, {"items": "/nowhere/items.csv"}, "There is no file /nowhere/items.csv"),
        (TEXT.replace("20", "NaN"), {}, "holds no time in 1 row, first 'NaN' in event 2"),
        (TEXT.replace("20", "soon"), {}, "first 'soon' in event 2"),
        (TEXT.replace("20", "-20"), {}, "in 1 row, first in row 2 (counted from 1), timestamp is negative"),
        (TEXT.replace("20", "2000000000000"), {}, "suggests milliseconds"),
        (TEXT.replace("007", ""), {}, "first in row 1 (counted from 1), item_id is null"),
        (TEXT + "u3,i3,40,5,extra\n", {}, "more fields than its first line, first in line 5 (5 instead of 4)"),
        (TEXT + "u3,i", {}, "The last line of", ),
        (TEXT.encode() + b"u3,caf\xe9,40,5\n", {}, "is not UTF-8 text, first in line 5"),
        ("", {}, "is empty"),
        ("user_id,item_id,timestamp\n", {}, "holds no events"),
        ("user_id,item_id\na,x\n", {}, "has no column 'timestamp', so its events have no order"),
        ("user_id,user_id,timestamp\na,x,1\n", {}, "user_id"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_leaves_nothing(
    content: str | bytes, options: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(RecascadeError) as caught:
        imported(tmp_path, content, **options)
    assert sentence in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.csv"]


def test_a_late_word_in_a_column_of_numbers(tmp_path: Path) -> None:
    lines = "".join(f"u,i,{number},{number}\n" for number in range(12_000))
    content = f"user_id,item_id,timestamp,price\n{lines}u,i,1,free\n"
    with pytest.raises(DataError, match=r"Column 'price' of .* holds 'free' after values that are numbers"):
        imported(tmp_path, content)
    assert imported(tmp_path, content, text="price").interactions().collect()["price"][-1] == "free"


def test_a_cut_off_archive(tmp_path: Path) -> None:
    whole = gzip.compress((TEXT * 500).encode())
    with pytest.raises(DataError, match="cannot be unpacked; it is cut off or damaged"):
        imported(tmp_path, whole[: len(whole) // 2], "log.csv.gz")


def test_a_taken_destination_and_an_unknown_adapter(tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "thesis.tex").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        imported(tmp_path, TEXT)
    with pytest.raises(ConfigurationError, match=r"There is no adapter 'movielense'. Did you mean 'movielens'"):
        import_dataset("movielense", tmp_path, tmp_path / "new")


def test_every_adapter_can_be_loaded() -> None:
    import importlib

    for adapter in ADAPTERS.values():
        module, _, function = adapter.read.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
