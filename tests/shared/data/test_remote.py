from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import polars as pl
import pytest
from click.testing import CliRunner
from object_store import KEYS, object_store, put
from unreliable_server import unreliable_server

from recascade.cli.data import command
from recascade.data.adapters.registry import import_dataset
from recascade.data.dataset import Dataset
from recascade.data.sources import resolve
from recascade.errors import DataError, MissingDependencyError

pytestmark = pytest.mark.usefixtures("home")
CSV = b"user_id,item_id,timestamp\na,x,1\nb,y,2\n"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment, object_store() as query:
        for name, value in KEYS.items():
            environment.setenv(name, value)
        yield query


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()


def upload(store: str, data: Dataset, place: str) -> None:
    for path in data.path.iterdir():
        put(store, f"{place}/{path.name}", path.read_bytes())


def test_a_data_set_in_a_bucket_equals_the_local_one(store: str, log: Path, home: Path) -> None:
    local = Dataset.open(log)
    upload(store, local, "logs/shop")
    data = resolve(f"s3://logs/shop{store}")
    assert data.interactions().collect().equals(local.interactions().collect())
    assert data.fingerprint == local.fingerprint and data.name == local.name
    assert data.path.is_relative_to(home / "remote")
    # The same content is not copied again; a changed one is, and the old copy stays as it was.
    assert resolve(f"s3://logs/shop/{store}").path == data.path
    put(store, "logs/shop/dataset.json", b'{"name": "renamed"}')
    assert resolve(f"s3://logs/shop{store}").name == "renamed" and Dataset.open(data.path).name == local.name


def test_a_file_in_a_bucket_is_imported(store: str, tmp_path: Path) -> None:
    put(store, "raw/log.csv", CSV)
    put(store, "raw/items.csv", b"item_id,colour\nx,red\n")
    result = CliRunner().invoke(
        command,
        ["import", "delimited", f"s3://raw/log.csv{store}", str(tmp_path / "shop"), f"items=s3://raw/items.csv{store}"],
    )
    assert result.exit_code == 0, result.exception
    data = Dataset.open(tmp_path / "shop")
    items = data.items()
    assert data.interactions().collect().rows() == [("a", "x", 1), ("b", "y", 2)]
    assert items is not None and items.collect().rows() == [("x", "red")]
    assert data.facts["source"] == "s3://raw/log.csv" and not (tmp_path / "shop" / "scratch").exists()


def test_a_folder_in_a_bucket_is_imported(store: str, tmp_path: Path) -> None:
    put(store, "raw/atomic/a.inter", b"user_id:token\titem_id:token\ttimestamp:float\nu\ti\t5\n")
    put(store, "raw/atomic/a.item", b"item_id:token\tname:token_seq\ni\tA name\n")
    data = import_dataset("recbole", f"s3://raw/atomic{store}", tmp_path / "a")
    assert data.tables == ["interactions", "items"] and data.interactions().collect().rows() == [("u", "i", 5)]


def test_part_files_in_a_bucket_are_imported(store: str, log: Path, tmp_path: Path) -> None:
    whole = pl.read_parquet(log / "interactions.parquet")
    for place, part in enumerate((whole.head(50), whole.slice(50))):
        part.write_parquet(tmp_path / "part")
        put(store, f"raw/parts/day={place}/part-0.parquet", (tmp_path / "part").read_bytes())
    data = import_dataset("canonical", f"s3://raw/parts{store}", tmp_path / "imported")
    assert data.interactions().collect().equals(whole)


def test_a_sentence_about_a_copy_names_the_original(store: str, tmp_path: Path) -> None:
    put(store, "raw/bad.csv", CSV.replace(b"item_id", b"thing"))
    with pytest.raises(DataError, match=r"^s3://raw/bad\.csv has no column 'item_id'"):
        import_dataset("delimited", f"s3://raw/bad.csv{store}", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_what_is_not_there_is_said(store: str, tmp_path: Path) -> None:
    put(store, "raw/log.csv", CSV)
    for place, sentence in (
        ("raw/nothing.csv", r"There is no file or folder s3://raw/nothing\.csv\.$"),
        ("no-bucket/log.csv", r"s3://no-bucket/log\.csv"),
    ):
        with pytest.raises(DataError, match=sentence):
            import_dataset("delimited", f"s3://{place}{store}", tmp_path / "shop")
    with pytest.raises(DataError, match=r"s3://raw holds no data set: it has no interactions\.parquet"):
        resolve(f"s3://raw{store}")
    with pytest.raises(DataError, match=r"There is no file or folder s3://|cannot be read"):
        import_dataset("delimited", f"s3://{store}", tmp_path / "shop")


def test_a_damaged_table_is_said(store: str, log: Path) -> None:
    content = (log / "interactions.parquet").read_bytes()
    put(store, "broken/shop/interactions.parquet", content[:-30])
    with pytest.raises(DataError, match="is not a complete Parquet file"):
        resolve(f"s3://broken/shop{store}").interactions()


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with object_store(refuse=True) as store:
        with pytest.raises(DataError, match=r"s3://raw/log\.csv may not be read with these credentials; check them"):
            import_dataset("delimited", f"s3://raw/log.csv{store}", tmp_path / "shop")
        with pytest.raises(DataError, match=r"s3://raw/shop may not be read with these credentials"):
            resolve(f"s3://raw/shop{store}")


def test_a_wrong_endpoint_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    nobody = "?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(DataError, match=r"^s3://raw/shop cannot be reached; check the network and the endpoint"):
        resolve(f"s3://raw/shop{nobody}")
    with unreliable_server() as server:
        place = server.address.removeprefix("http://")
        other = f"?endpoint_override={place}&scheme=http&region=us-east-1"
        with pytest.raises(DataError, match=r"s3://raw/shop"):
            resolve(f"s3://raw/shop{other}")


def test_other_filesystems(memory: fsspec.AbstractFileSystem, log: Path, tmp_path: Path) -> None:
    memory.mkdir("/logs/shop")
    for path in log.iterdir():
        memory.pipe(f"/logs/shop/{path.name}", path.read_bytes())
    local = Dataset.open(log)
    data = resolve("memory://logs/shop")
    assert data.fingerprint == local.fingerprint and resolve("memory://logs/shop").path == data.path
    assert resolve(f"file://{log}").path == log
    memory.pipe("/logs/log.csv", CSV)
    assert import_dataset("delimited", "memory://logs/log.csv", tmp_path / "a").interactions().collect().height == 2
    (tmp_path / "log.csv").write_bytes(CSV)
    imported = import_dataset("delimited", f"file://{tmp_path}/log.csv", tmp_path / "b")
    assert imported.interactions().collect().height == 2 and (tmp_path / "log.csv").is_file()
    shutil.rmtree(imported.path)


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("nothing://a/b", DataError, r"nothing://a/b cannot be read \(.*nothing.*\); check the address"),
        ("s3://bu cket/x", DataError, r"s3://bu cket/x cannot be read"),
        ("memory://logs/none", DataError, "holds no data set"),
        ("abfs://container@account/x?blob_storage_authority=127.0.0.1:9&blob_storage_scheme=http", DataError, "abfs://"),
        ("libarchive://a/b", MissingDependencyError, "needs a package that is not installed .*libarchive"),
        ("gs://anonymous@b/c?endpoint_override=127.0.0.1:9&scheme=http&retry_limit_seconds=1", DataError,
         r"gs://b/c cannot be reached"),
    ],
)  # fmt: skip
def test_impossible_addresses(
    address: str, error: type[Exception], sentence: str, memory: fsspec.AbstractFileSystem
) -> None:
    with pytest.raises(error, match=sentence):
        resolve(address)


def test_the_environment_names_the_endpoint(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "raw/log.csv", CSV)
    endpoint = store.partition("endpoint_override=")[2].partition("&")[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert os.environ["AWS_ACCESS_KEY_ID"] == "key"
    data = import_dataset("delimited", "s3://raw/log.csv", tmp_path / "shop")
    assert data.interactions().collect().height == 2
