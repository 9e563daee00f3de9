from __future__ import annotations

import tarfile
from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import import_dataset
from recascade.data.dataset import Dataset
from recascade.errors import ConfigurationError, DataError

HEAD = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
FILES = {
    "log_standard_4_08_to_4_21_pure.csv": HEAD
    + "3,1071,20220408,1600,1649408076860,1,0,0,0,0,0,1,175045,87433,0,0,0,0,1\n"
    + "3,20,20220408,1600,1649408076900,0,0,0,0,0,0,0,0,65400,0,0,0,0,1\n",
    "log_standard_4_22_to_5_08_pure.csv": HEAD + "4,20,20220422,900,1650589200123,1,1,0,0,0,0,0,9,65400,0,0,0,0,4\n",
    "log_random_4_22_to_5_08_pure.csv": HEAD + "4,30,20220423,900,1650675600000,1,0,0,0,0,0,0,9,100,0,0,0,0,4\n",
    "user_features_pure.csv": "user_id,user_active_degree,follow_user_num\n3,full_active,5\n4,high_active,\n",
    "video_features_basic_pure.csv": 'video_id,author_id,tag,video_duration\n1071,9,"12,65",87433\n20,8,,65400.5\n',
    "video_features_statistic_pure.csv": "video_id,show_cnt\n20,7.5\n",
}


def write(folder: Path, **changed: str) -> Path:
    data = folder / "KuaiRand-Pure" / "data"
    data.mkdir(parents=True)
    for name, content in FILES.items():
        (data / name).write_text(changed.get(name.partition(".")[0], content))
    return data.parent


def packed(folder: Path) -> Path:
    archive = folder.parent / "KuaiRand-Pure.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, folder.name)
    return archive


def imported(folder: Path, source: Path, **options: str) -> Dataset:
    return import_dataset("kuairand", source, folder / "imported", options)


@pytest.mark.parametrize("form", ["folder", "data", "archive"])
def test_folder_and_archive_give_the_same_tables(form: str, tmp_path: Path) -> None:
    source = write(tmp_path)
    source = {"folder": source, "data": source / "data", "archive": packed(source)}[form]
    data = imported(tmp_path, source)
    events = data.interactions().collect()
    assert events.select("user_id", "item_id", "timestamp", "time_ms", "is_like", "play_time_ms").rows() == [
        ("3", "1071", 1649408076, 1649408076860, 0, 175045),
        ("4", "20", 1650589200, 1650589200123, 1, 9),
    ]
    assert events.schema["is_click"] == pl.Int8 and events.schema["play_time_ms"] == pl.Int64
    items, users = data.items(), data.users()
    assert items is not None and users is not None
    assert items.collect().sort("item_id").select("item_id", "author_id", "categories").rows() == [
        ("1071", "9", ["12", "65"]), ("20", "8", None),
    ]  # fmt: skip
    assert users.collect().rows() == [("3", "full_active", 5.0), ("4", "high_active", None)]
    assert {entry.name for entry in data.path.iterdir()} == {
        "interactions.parquet", "items.parquet", "users.parquet", "dataset.json",
    }  # fmt: skip


@pytest.mark.parametrize("as_archive", [False, True])
def test_averages_over_the_whole_month_join_only_on_request(as_archive: bool, tmp_path: Path) -> None:
    source = packed(write(tmp_path)) if as_archive else write(tmp_path)
    plain = imported(tmp_path, source).items()
    assert plain is not None and "show_cnt" not in plain.collect_schema()
    asked = import_dataset("kuairand", source, tmp_path / "asked", {"statistics": "yes"}).items()
    assert asked is not None
    assert asked.collect().sort("item_id").select("item_id", "show_cnt").rows() == [("1071", None), ("20", 7.5)]


@pytest.mark.parametrize(
    ("options", "items"),
    [
        ({"signal": "none"}, ["1071", "20", "20"]),
        ({"signal": "long_view"}, ["1071"]),
        ({"logs": "random"}, ["30"]),
        ({"logs": "all"}, ["30", "1071", "20"]),
    ],
)
def test_the_signal_and_the_logs_choose_the_events(options: dict[str, str], items: list[str], tmp_path: Path) -> None:
    assert imported(tmp_path, write(tmp_path), **options).interactions().collect()["item_id"].to_list() == items


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (HEAD.replace("is_click", "click") + "1\n", "has no column 'is_click'; it has user_id"),
        (FILES["log_standard_4_08_to_4_21_pure.csv"] + HEAD, "'is_click' of .* holds no number in 1 row"),
        (HEAD + "3,1071,20220408,1600,1649", "is cut off"),
        (HEAD.replace("is_like", "is_click"), "two columns named 'is_click'"),
        ("", "is empty"),
    ],
)
def test_hostile_logs_get_a_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    source = write(tmp_path, log_standard_4_08_to_4_21_pure=content)
    with pytest.raises(DataError, match=sentence) as caught:
        imported(tmp_path, source)
    assert "log_standard_4_08_to_4_21_pure.csv" in str(caught.value)
    assert not (tmp_path / "imported").exists()


def test_archives_and_options(tmp_path: Path) -> None:
    source = write(tmp_path)
    archive = packed(source)
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"KuaiRand-Pure\.tar\.gz is not a complete tar archive"):
        imported(tmp_path, archive)
    with pytest.raises(DataError, match=r"holds no file log_standard_….csv"):
        imported(tmp_path, tmp_path)
    with pytest.raises(ConfigurationError, match=r"signal=is_clik is not possible. Did you mean 'is_click'"):
        imported(tmp_path, source, signal="is_clik")
    with pytest.raises(ConfigurationError, match="logs=some is not possible"):
        imported(tmp_path, source, logs="some")
    with pytest.raises(ConfigurationError, match="statistics=maybe is not possible"):
        imported(tmp_path, source, statistics="maybe")
