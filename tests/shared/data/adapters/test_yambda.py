from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recascade.data.adapters.registry import import_dataset
from recascade.errors import ConfigurationError, DataError

LISTENS = pl.DataFrame(
    {
        "uid": [100, 100, 200], "timestamp": [0, 5, 10], "item_id": [7, 8, 7], "is_organic": [1, 0, 1],
        "played_ratio_pct": [100, 20, 130], "track_length_seconds": [200, 180, 200],
    },
    schema_overrides={"uid": pl.UInt32, "item_id": pl.UInt32, "timestamp": pl.UInt32, "is_organic": pl.UInt8},
)  # fmt: skip
LIKES = LISTENS.head(1).select("uid", "timestamp", "item_id", "is_organic")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "50m"
    place.mkdir()
    LISTENS.write_parquet(place / "listens.parquet")
    LIKES.write_parquet(place / "likes.parquet")
    both = [LISTENS.with_columns(event_type=pl.lit("listen")), LIKES.with_columns(event_type=pl.lit("like"))]
    pl.concat(both, how="diagonal").write_parquet(place / "multi_event.parquet")
    return place


def columns(folder: Path, source: Path, **options: str) -> pl.DataFrame:
    return import_dataset("yambda", source, folder / "imported", options).interactions().collect()


def test_a_file_of_listens(folder: Path, tmp_path: Path) -> None:
    events = columns(tmp_path, folder / "listens.parquet")
    assert events.select("user_id", "item_id", "timestamp", "behaviour", "played_ratio_pct").rows() == [
        ("100", "7", 0, "listen", 100), ("100", "8", 5, "listen", 20), ("200", "7", 10, "listen", 130),
    ]  # fmt: skip


def test_several_kinds_equal_the_file_of_all(folder: Path, tmp_path: Path) -> None:
    apart = columns(tmp_path, folder, events="listens,likes")
    together = columns(tmp_path / "second", folder / "multi_event.parquet")
    assert apart["behaviour"].to_list() == ["listen", "listen", "listen", "like"]
    assert apart.select(sorted(apart.columns)).equals(together.select(sorted(apart.columns)))


def test_one_row_per_user_gives_the_same(folder: Path, tmp_path: Path) -> None:
    LISTENS.group_by("uid", maintain_order=True).agg(pl.exclude("uid")).write_parquet(tmp_path / "listens.parquet")
    assert columns(tmp_path, tmp_path / "listens.parquet").equals(
        columns(tmp_path / "second", folder / "listens.parquet")
    )


def test_short_listens_are_left_out_and_likes_are_not(folder: Path, tmp_path: Path) -> None:
    for place, events in enumerate(("listens,likes", "multi_event")):
        kept = columns(tmp_path / str(place), folder, events=events, played="50")
        assert kept.select("item_id", "behaviour").rows() == [("7", "listen"), ("7", "listen"), ("7", "like")]


def test_artists_and_albums_become_items(folder: Path, tmp_path: Path) -> None:
    pl.DataFrame({"artist_id": [2, 1, 3], "item_id": [7, 7, 9]}).write_parquet(tmp_path / "artists.parquet")
    pl.DataFrame({"album_id": [5], "item_id": [7]}).write_parquet(tmp_path / "albums.parquet")
    options = {name: str(tmp_path / f"{name}.parquet") for name in ("artists", "albums")}
    items = import_dataset("yambda", folder, tmp_path / "imported", options).items()
    assert items is not None
    assert items.collect().rows() == [("7", ["1", "2"], ["5"]), ("9", ["3"], None)]


def test_mistakes_get_a_sentence(folder: Path, tmp_path: Path) -> None:
    LISTENS.rename({"uid": "user"}).write_parquet(tmp_path / "odd.parquet")
    (tmp_path / "cut.parquet").write_bytes((folder / "listens.parquet").read_bytes()[:-40])
    LISTENS.with_columns(pl.col("item_id") + 0.5).write_parquet(tmp_path / "fractions.parquet")
    for source, sentence in (
        (tmp_path / "odd.parquet", r"odd\.parquet has no column 'uid'; it has user"),
        (tmp_path / "cut.parquet", r"cut\.parquet is not a complete Parquet file"),
        (tmp_path / "fractions.parquet", "identifiers must be text or whole numbers"),
        (tmp_path / "nowhere", "There is no file or folder"),
    ):
        with pytest.raises(DataError, match=sentence):
            columns(tmp_path, source)
    with pytest.raises(DataError, match=r"There is no file .*dislikes\.parquet"):
        columns(tmp_path, folder, events="dislikes")
    with pytest.raises(ConfigurationError, match=r"events=liks is not possible. Did you mean 'likes'"):
        columns(tmp_path, folder, events="liks")
    with pytest.raises(ConfigurationError, match="played=half is no number"):
        columns(tmp_path, folder, played="half")
