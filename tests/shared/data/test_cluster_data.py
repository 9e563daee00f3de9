from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recascade.data.adapters.registry import import_dataset
from recascade.data.cluster import ray_cluster
from recascade.data.cluster_filters import write_filtered_on_cluster
from recascade.data.cluster_import import import_on_cluster
from recascade.data.dataset import Dataset
from recascade.data.filters import write_filtered
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError, DataError

pytest.importorskip("ray", reason="Ray is not installed")

HEADER = "user_id,item_id,timestamp,price\n"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for all tests; the functions under test use what is connected."""
    with ray_cluster(cpus=2):
        yield


def lines(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [
        f"u{chance.randint(0, 40):03d},{chance.randint(0, 30):02d},{chance.randint(0, 500)},{chance.random():.3f}\n"
        for _ in range(count)
    ]


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """A log of three days in three files, one of them packed."""
    folder = tmp_path / "days"
    folder.mkdir()
    for day, count in enumerate((300, 1, 200)):
        text = HEADER + "".join(lines(count, day))
        if day == 1:
            (folder / f"day-{day}.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"day-{day}.csv").write_text(text)
    return folder


def same_tables(one: Dataset, other: Dataset) -> None:
    assert one.tables == other.tables
    for table in one.tables:
        assert_frame_equal(pl.read_parquet(one.table_path(table)), pl.read_parquet(other.table_path(table)))


@pytest.mark.parametrize("pattern", ["", "day-*.csv*"], ids=["folder", "pattern"])
def test_many_files_become_what_one_file_with_all_their_lines_becomes(days: Path, tmp_path: Path, pattern: str) -> None:
    whole = tmp_path / "whole.csv"
    whole.write_text(HEADER + "".join(line for day, count in enumerate((300, 1, 200)) for line in lines(count, day)))
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n" + "".join(f"{item:02d},Title {item}\n" for item in range(31)))
    options = {"items": str(items)}
    local = import_dataset("delimited", whole, tmp_path / "local", options, name="log")
    remote = import_on_cluster("delimited", days / pattern, tmp_path / "remote", options, name="log")
    same_tables(local, remote)
    assert remote.fingerprint == local.fingerprint
    assert remote.facts["counts"] == local.facts["counts"]
    assert remote.facts["files"] == 3
    assert not list(tmp_path.glob(".*"))


def test_products_stay_that_were_bought_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    products = [f"B{item:09d}" for item in range(6)]
    # The first file has bought the second product alone, and nobody the last.
    rows = [f"AREVIEWER{row:04d},{product},5.0,{1000 + row}\n" for row, product in enumerate(products[1:5])]
    for part, few in enumerate((rows[:1], rows[1:3], rows[3:])):
        (tmp_path / "parts" / f"{part}.csv").write_text("".join(few))
    whole = tmp_path / "whole.csv"
    whole.write_text("".join(rows))
    items = tmp_path / "meta.json"
    items.write_text("".join(f"{{'asin': '{product}', 'title': 'T'}}\n" for product in reversed(products)))
    options = {"items": str(items)}
    local = import_dataset("amazon-2014", whole, tmp_path / "local", options)
    remote = import_on_cluster("amazon-2014", tmp_path / "parts", tmp_path / "remote", options)
    same_tables(local, remote)
    assert pl.read_parquet(remote.table_path("items"))["item_id"].to_list() == products[1:5]


def test_the_file_that_cannot_be_read_is_named(days: Path, tmp_path: Path) -> None:
    (days / "day-0.csv").write_text("user,item_id,timestamp\nu1,1,5\n")
    with pytest.raises(DataError, match=r"day-0\.csv has no column 'user_id'"):
        import_on_cluster("delimited", days, tmp_path / "remote")
    assert not (tmp_path / "remote").exists()
    assert not list(tmp_path.glob(".*"))


def test_files_with_other_types_are_refused(days: Path, tmp_path: Path) -> None:
    (days / "day-2.csv").write_text(HEADER + "u1,1,5,unknown\n")
    with pytest.raises(
        DataError, match=r"Column 'price' of interactions is Float64 in .*day-0\.csv and String in .*day-2"
    ):
        import_on_cluster("delimited", days, tmp_path / "remote")
    same = import_on_cluster("delimited", days, tmp_path / "remote", {"text": "price"})
    assert same.interactions().collect_schema()["price"] == pl.String


def test_what_several_files_cannot_give_is_refused(days: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="order=file"):
        import_on_cluster("delimited", days, tmp_path / "remote", {"order": "file"})
    with pytest.raises(DataError, match="names no file"):
        import_on_cluster("delimited", days / "*.tsv", tmp_path / "remote")
    with pytest.raises(ConfigurationError, match=r"s3://bucket/log\.csv is an address"):
        import_on_cluster("delimited", "s3://key:secret@bucket/log.csv", tmp_path / "remote")


@pytest.mark.parametrize(
    "config",
    [
        SplitConfig(user_min_events=5, item_min_events=12),
        SplitConfig(item_min_events=17, user_min_events=0, since="60", until="400"),
        SplitConfig(user_min_events=0, item_min_events=0, until="250"),
    ],
    ids=["core", "core in a window", "window"],
)
@pytest.mark.parametrize("piece_events", [64, 10_000], ids=["many pieces", "one piece"])
def test_the_same_events_stay_in_their_order(tmp_path: Path, config: SplitConfig, piece_events: int) -> None:
    source = tmp_path / "log.csv"
    # Some events without a time, which have no place in an order.
    source.write_text(HEADER + "".join(lines(500, 7)) + "u001,05,,1.0\n")
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n" + "".join(f"{item:02d},Title {item}\n" for item in range(31)))
    dataset = import_dataset("delimited", source, tmp_path / "log", {"items": str(items)})
    local = write_filtered(dataset, config, tmp_path / "local")
    remote = write_filtered_on_cluster(dataset, config, tmp_path / "remote", piece_events=piece_events)
    same_tables(local, remote)
    assert remote.facts["counts"] == local.facts["counts"]
    assert 0 < local.facts["counts"]["kept"] < 500


def test_a_core_that_falls_apart_step_by_step(tmp_path: Path) -> None:
    source = tmp_path / "path.csv"
    # A path falls apart from its end, one node a round.
    edges = [(user, item) for user in range(6) for item in (user, user + 1)][:-1]
    source.write_text("user_id,item_id,timestamp\n" + "".join(f"u{user},i{item},1\n" for user, item in edges))
    dataset = import_dataset("delimited", source, tmp_path / "log")
    with pytest.raises(DataError, match="No event of data set 'log' is left"):
        write_filtered_on_cluster(
            dataset, SplitConfig(user_min_events=2, item_min_events=2), tmp_path / "remote", piece_events=3
        )
    assert not (tmp_path / "remote").exists()


def test_deduplication_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "log.csv"
    source.write_text(HEADER + "".join(lines(5, 0)))
    dataset = import_dataset("delimited", source, tmp_path / "log")
    with pytest.raises(ConfigurationError, match="--deduplicate exact does not work with --runner ray"):
        write_filtered_on_cluster(dataset, SplitConfig(deduplicate="exact"), tmp_path / "remote")
