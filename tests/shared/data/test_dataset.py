from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from recascade.data.dataset import Dataset
from recascade.errors import DataError
from recascade.files import write_json

ROWS = [("a", "x", 1), ("a", "y", 2)]


def test_tables_are_opened_lazily(write_log) -> None:
    data = write_log(ROWS, items=pl.DataFrame({"item_id": ["x"]}))
    assert data.tables == ["interactions", "items"]
    assert data.interactions().collect().rows() == ROWS
    assert data.items().collect().rows() == [("x",)]
    assert data.users() is None
    assert data.has("timestamp") and not data.has("rating")


def test_name_terms_and_label_come_from_the_manifest(write_log) -> None:
    data = write_log(ROWS)
    assert (data.name, data.terms, data.synthetic) == ("written", "", False)
    write_json(data.path / "dataset.json", {"name": "shop", "terms": "ours", "synthetic": True})
    data = Dataset.open(data.path)
    assert (data.name, data.terms, data.synthetic) == ("shop", "ours", True)


def test_a_set_without_users_says_so(tmp_path: Path) -> None:
    pl.DataFrame({"query_id": ["q"], "label": [1]}).write_parquet(tmp_path / "lists.parquet")
    data = Dataset.open(tmp_path)
    assert data.lists().collect().rows() == [("q", 1)]
    with pytest.raises(DataError, match=r"has no interactions.parquet, only lists"):
        data.interactions()


def test_the_fingerprint_follows_the_content_alone(write_log, tmp_path: Path) -> None:
    data = write_log(ROWS)
    fingerprint = data.fingerprint
    assert len(fingerprint) == 64
    assert (data.path / "fingerprint.json").is_file()
    moved = tmp_path / "elsewhere"
    shutil.copytree(data.path, moved)
    assert Dataset.open(moved).fingerprint == fingerprint
    data.interactions().collect().head(1).write_parquet(moved / "interactions.parquet")
    assert Dataset.open(moved).fingerprint != fingerprint


def test_an_unchanged_file_is_not_read_again(write_log, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_log(ROWS)
    fingerprint = data.fingerprint

    def refuse(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr("recascade.data.dataset.sha256_of", refuse)
    assert Dataset.open(data.path).fingerprint == fingerprint


def test_what_is_no_data_set_is_said(write_log, tmp_path: Path) -> None:
    data = write_log(ROWS)
    with pytest.raises(DataError, match=r"There is no folder .*writen. Did you mean 'written'"):
        Dataset.open(tmp_path / "writen")
    with pytest.raises(DataError, match="is a file; a data set is a folder"):
        Dataset.open(data.path / "interactions.parquet")
    with pytest.raises(DataError, match=r"holds no data set: it has no interactions.parquet"):
        Dataset.open(tmp_path)
    (data.path / "dataset.json").write_text('{"name"')
    with pytest.raises(DataError, match=r"dataset.json is not complete JSON"):
        Dataset.open(data.path)
