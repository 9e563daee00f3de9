from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import import_dataset
from recascade.errors import ConfigurationError, DataError

LOG = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n1\t007\t4.5\t1.0e3\n"
ITEMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tvector:float_seq\n"
    '242\t"Kolya" of Prague\t1996\tComedy\t0.5 1\n007\tDr No\t1962\tAction Thriller\t1 2\n'
)
USERS = "user_id:token\tage:float\tgender:token\n196\t49\tM\n1\t24\tF\n"


def write(folder: Path, log: str = LOG, items: str = ITEMS, users: str = USERS) -> Path:
    for suffix, content in (("inter", log), ("item", items), ("user", users)):
        if content:
            (folder / f"small.{suffix}").write_text(content)
    return folder


@pytest.mark.parametrize("by_file", [False, True])
def test_the_three_files_become_three_tables(by_file: bool, tmp_path: Path) -> None:
    source = write(tmp_path) / "small.inter" if by_file else write(tmp_path)
    data = import_dataset("recbole", source, tmp_path / "imported")
    events = data.interactions().collect()
    assert events.rows() == [("196", "242", 3.0, 881250949), ("1", "007", 4.5, 1000)]
    assert events.schema["rating"] == pl.Float32
    items, users = data.items(), data.users()
    assert items is not None and users is not None
    first = items.collect().to_dicts()[0]
    assert first == {
        "item_id": "242", "release_year": "1996", "vector": [0.5, 1.0], "title": '"Kolya" of Prague',
        "categories": ["Comedy"], "text": '"Kolya" of Prague. Comedy',
    }  # fmt: skip
    assert users.collect().rows() == [("196", 49.0, "M"), ("1", 24.0, "F")]


def test_other_names_and_a_log_alone(tmp_path: Path) -> None:
    log = LOG.replace("user_id", "session_id").replace("881250949", "881250949999").replace("1.0e3", "1000")
    source = write(tmp_path, log, "", "")
    options = {"user": "session_id", "time_unit": "ms"}
    data = import_dataset("recbole", source, tmp_path / "imported", options)
    assert data.interactions().collect()["timestamp"].to_list() == [881250949, 1]
    assert data.tables == ["interactions"]


def test_title_and_categories_by_name(tmp_path: Path) -> None:
    options = {"title": "release_year", "categories": "movie_title"}
    items = import_dataset("recbole", write(tmp_path), tmp_path / "imported", options).items()
    assert items is not None
    assert items.select("title", "categories").collect().row(1) == ("1962", ["Dr", "No"])
    with pytest.raises(ConfigurationError, match=r"no column 'titel' for title=\."):
        import_dataset("recbole", tmp_path, tmp_path / "second", {"title": "titel"})


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("", "must hold one .inter file, and holds none"),
        ("\n", "is empty|no type"),
        (LOG.replace(":token", ""), "Column 'user_id' of .*small.inter has no type; the header .* NAME:TYPE"),
        (LOG.replace("rating:float", "rating:number"), "'rating:number' of .* has no type"),
        (LOG.replace("item_id:token", "thing:token"), "no column 'item_id'; it has user_id, thing"),
        (LOG.replace("\ttimestamp:float", ""), "more fields than its first line"),
        (LOG.replace("rating:float", "timestamp:token"), "two columns of one name"),
        (LOG + LOG, "holds no number in 1 row, first 'rating:float' in row 3"),
        (LOG.replace("4.5", "good"), "'rating' of .*small.inter holds no number in 1 row, first 'good' in row 2"),
        (LOG.replace("1.0e3", "soon"), "'timestamp' of .* holds no time in 1 row, first 'soon'"),
        (LOG[:-12], "is cut off"),
    ],
)
def test_hostile_files_get_a_sentence(log: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        import_dataset("recbole", write(tmp_path, log), tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_several_logs_must_be_named(tmp_path: Path) -> None:
    (write(tmp_path) / "other.inter").write_text(LOG)
    with pytest.raises(DataError, match=r"holds other\.inter, small\.inter; name the file"):
        import_dataset("recbole", tmp_path, tmp_path / "imported")
    assert import_dataset("recbole", tmp_path / "other.inter", tmp_path / "imported").tables == ["interactions"]
