from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from unreliable_server import UnreliableServer, unreliable_server

from recascade.cli.data import command
from recascade.data.adapters.registry import ADAPTERS
from recascade.data.fetch.catalogue import catalogue, user_catalogue
from recascade.data.fetch.download import Patience
from recascade.data.fetch.fetch import fetch
from recascade.data.sources import known_sources, resolve
from recascade.errors import ConfigurationError, DataError

pytestmark = pytest.mark.usefixtures("home")
LOG = "".join(f"u{place % 997},i{place % 101},{place}\n" for place in range(40_000)).encode()
QUICK = Patience(timeout=0.4, pause=0.001)
AddEntry = Callable[..., None]


@pytest.fixture
def server() -> Iterator[UnreliableServer]:
    with unreliable_server() as running:
        running.files["/log.csv"] = b"user_id,item_id,timestamp\n" + LOG
        running.files["/items.csv"] = b"item_id,colour\ni1,red\n"
        yield running


@pytest.fixture
def add(home: Path, server: UnreliableServer) -> AddEntry:
    """Add an entry ``shop`` to the user's catalogue; words go to the address of its log."""

    def write(name: str = "shop", entry: dict[str, object] | None = None, **how: object) -> None:
        content = server.files["/log.csv"]
        log = {
            "urls": [server("log.csv", **how)],
            "size": len(content),
            "checksum": "sha256:" + hashlib.sha256(content).hexdigest(),
        }
        items = {"urls": server("items.csv")}
        whole = {
            "about": "a small shop",
            "terms": "Do as you like.",
            "adapter": "delimited",
            "source": "log.csv",
            "options": {"items": "items.csv"},
            "files": {"log.csv": log, "items.csv": items},
        }
        user_catalogue().parent.mkdir(parents=True, exist_ok=True)
        user_catalogue().write_text(yaml.safe_dump({name: whole | (entry or {})}))

    return write


def quiet(*_: object) -> None:
    pass


def test_an_entry_of_the_user_is_fetched_imported_and_found_by_name(
    add: AddEntry, server: UnreliableServer, home: Path
) -> None:
    add()
    told: list[tuple[str, int, int | None]] = []
    data = fetch("shop", lambda *each: told.append(each), QUICK)
    assert data.path == home / "datasets" / "shop" and data.terms == "Do as you like."
    assert data.interactions().collect().height == 40_000
    table = data.items()
    assert table is not None and table.collect().rows() == [("i1", "red")]
    assert {file for file, *_ in told} == {"log.csv", "items.csv"}
    assert resolve("shop").fingerprint == data.fingerprint
    assert "shop" in {source.name for source in known_sources()}
    asked = len(server.asked)
    assert fetch("shop", quiet, QUICK).path == data.path and len(server.asked) == asked


def test_what_is_not_here_is_said_with_the_command(add: AddEntry) -> None:
    with pytest.raises(DataError, match=r"'ml-1m' is not here yet; fetch it with: recascade data fetch ml-1m"):
        resolve("ml-1m")
    add()
    with pytest.raises(DataError, match="recascade data fetch shop"):
        resolve("shop")
    with pytest.raises(DataError, match=r"Did you mean 'kuairand-pure'"):
        resolve("kuairand-pur")


def test_a_failure_leaves_nothing_that_looks_like_a_data_set(add: AddEntry, home: Path) -> None:
    add(flip=1)
    with pytest.raises(DataError, match="another checksum"):
        fetch("shop", quiet, QUICK)
    add(entry={"options": {"user": "customer"}})
    with pytest.raises(DataError, match="no column 'customer'"):
        fetch("shop", quiet, QUICK)
    assert not (home / "datasets" / "shop").exists()


def test_the_built_in_catalogue_is_complete() -> None:
    entries = catalogue()
    assert len(entries) > 20
    for entry in entries.values():
        assert entry.adapter in ADAPTERS and entry.terms and entry.about and entry.checked, entry.name
        assert set(entry.options) <= set(ADAPTERS[entry.adapter].options)
        for file in entry.files:
            assert all(url.startswith("https://") for url in file.urls), file.name
    assert entries["ml-1m"].size == 5_917_549
    assert entries["amazon-2014-beauty-5-core"].size is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("shop: [", "catalogue.yaml is no YAML, line 1"),
        ("- shop", "must map names to entries"),
        ("shop: 3", "Entry 'shop' of .*catalogue.yaml must hold about"),
        ("shop: {adapter: delimited}", "lacks 'files'"),
        ("shop: {adapter: delimited, files: {}}", "files must map file names"),
        ("shop: {adaptor: delimited}", "unknown key 'adaptor'. Did you mean 'adapter'"),
        ("../up: {adapter: delimited, files: {a: {urls: 'https://x'}}}", "'../up' is no name"),
        ("shop: {adapter: x, files: {../a: {urls: 'https://x'}}}", "'../a' is no name"),
        ("shop: {adapter: x, files: {a: {urls: []}}}", "urls must be one address or several"),
        ("shop: {adapter: x, files: {a: {urls: 'ftp://x/a'}}}", "'ftp://x/a' is no address"),
        ("shop: {adapter: x, files: {a: {urls: 'file:///etc/passwd'}}}", "is no address"),
        ("shop: {adapter: x, files: {a: {urls: 'http://x.org/a'}}}", r"not protected \(http\) and no checksum"),
        ("shop: {adapter: x, files: {a: {urls: 'https://x/a', size: big}}}", "size 'big' is no number of bytes"),
        ("shop: {adapter: x, files: {a: {urls: 'https://x/a', checksum: 'md5:12'}}}", "checksum 'md5:12' is none"),
        ("shop: {adapter: x, source: b, files: {a: {urls: 'https://x/a'}}}", "source 'b' is none of its files"),
        ("shop: {adapter: x, files: {a: {urls: 'https://x/a'}, b: {urls: 'https://x/b'}}}", "has several files; name"),
        ("shop: {adapter: x, options: 3, files: {a: {urls: 'https://x/a'}}}", "options must map"),
        ("shop: {adapter: delimitd, files: {a: {urls: 'https://x/a'}}}", "'delimitd' that there is not. Did you mean"),
    ],
)  # fmt: skip
def test_mistakes_in_a_catalogue_are_named(text: str, sentence: str, home: Path) -> None:
    home.mkdir(exist_ok=True)
    user_catalogue().write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        fetch("shop", quiet, QUICK)


def test_an_own_entry_takes_the_place_of_a_built_in_one(add: AddEntry) -> None:
    add("ml-1m")
    assert fetch("ml-1m", quiet, QUICK).interactions().collect().height == 40_000


def test_the_command(add: AddEntry, server: UnreliableServer) -> None:
    add()

    def run(*words: str) -> str:
        result = CliRunner().invoke(command, ["fetch", *words])
        assert result.exception is None or isinstance(result.exception, SystemExit | ConfigurationError)
        return result.output + str(result.exception or "")

    output = run("shop")
    assert "40,000 events of 997 users and 101 items" in output and "Terms: Do as you like." in output
    listed = run("--list")
    for words in ("shop", "a small shop", "no checksum: that of the first fetch is recorded", "ml-25m", "262.0 MB"):
        assert words in listed
    assert "Name a data set, or see all with --list" in run()
    assert "The catalogue has no data set 'shp'. Did you mean 'shop'" in run("shp")


def in_process(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "recascade.cli.main", "data", "fetch", name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip


def test_two_processes_at_once_fetch_once(add: AddEntry, server: UnreliableServer) -> None:
    add(slow=0.02)
    for process in [in_process("shop"), in_process("shop")]:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "40,000 events" in output, errors
    assert sum("/log.csv" in path for path, _ in server.asked) == 1


def test_a_killed_fetch_goes_on(add: AddEntry, server: UnreliableServer, home: Path) -> None:
    add(slow=0.3)
    process = in_process("shop")
    partial = home / "downloads" / "shop" / ".log.csv.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size >= 1 << 15) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = partial.stat().st_size
    assert 0 < kept < len(LOG)
    add()
    assert fetch("shop", quiet, QUICK).interactions().collect().height == 40_000
    assert server.ranges[-1] == f"bytes={kept}-"
