from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unreliable_server import CONTENT, UnreliableServer, unreliable_server

from recascade.data.fetch.catalogue import RemoteFile
from recascade.data.fetch.download import Patience, download
from recascade.errors import DataError

SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
QUICK = Patience(timeout=0.4, pause=0.001)
NOBODY = "http://127.0.0.1:9/file"


@pytest.fixture
def server() -> Iterator[UnreliableServer]:
    with unreliable_server() as running:
        yield running


def get(
    folder: Path, *urls: str, size: int | None = len(CONTENT), checksum: str = SHA256, progress: list[int] | None = None
) -> str:
    told = [] if progress is None else progress
    return download(RemoteFile("file", urls, size, checksum), folder, lambda done, total: told.append(done), QUICK)


def whole(folder: Path) -> bool:
    return (folder / "file").read_bytes() == CONTENT and {entry.name for entry in folder.iterdir()} == {
        "file", "checksums.json",
    }  # fmt: skip


@pytest.mark.parametrize("checksum", [SHA256, MD5])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_file_arrives_whole_and_is_not_asked_for_again(
    checksum: str, size: int | None, server: UnreliableServer, tmp_path: Path
) -> None:
    progress: list[int] = []
    assert get(tmp_path, server(), size=size, checksum=checksum, progress=progress) == checksum
    assert whole(tmp_path) and progress[0] == 0 and progress[-1] == len(CONTENT) and progress == sorted(progress)
    assert get(tmp_path, server(), size=size, checksum=checksum) == checksum
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "how",
    [
        {"cut": 40_000, "times": 1},
        {"cut": 40_000},
        {"stall": 30_000, "times": 1},
        {"cut": 40_000, "times": 1, "ranges": "no"},
        {"cut": 40_000, "shift": 3, "times": 2},
        {"status": 500, "times": 2},
        {"status": 429, "times": 1},
        {"whole": "no"},
        {"cut": 40_000, "times": 1, "whole": "no"},
        {"to": "/file"},
    ],
    ids=str,
)
def test_a_bad_server_does_in_the_end(how: dict[str, object], server: UnreliableServer, tmp_path: Path) -> None:
    get(tmp_path, server(**how))
    assert whole(tmp_path)


def test_what_came_is_not_asked_for_again(server: UnreliableServer, tmp_path: Path) -> None:
    get(tmp_path, server(cut=40_000))
    assert server.ranges == ["", "bytes=40000-", "bytes=80000-", "bytes=120000-"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"flip": 1}, "sent a file with another checksum than the catalogue states"),
        ({"claim": len(CONTENT) + 5}, "says that the file has 131,077 bytes instead of 131,072"),
        ({"claim": 1000}, "says that the file has 1,000 bytes instead of 131,072"),
        ({"status": 403}, "answers 403 Forbidden"),
        ({"status": 404}, "answers 404 Not Found"),
        ({"status": 500}, "answers 500 Internal Server Error"),
        ({"stall": 30_000, "ranges": "no"}, r"sent nothing for 0\.4 seconds"),
        ({"cut": 30_000, "ranges": "no"}, "ended the connection after 30,000 of 131,072 bytes"),
        ({"to": "http://127.0.0.1:9/"}, "cannot be reached"),
    ],
    ids=str,
)
def test_a_hopeless_server_is_told_of_and_a_mirror_takes_over(
    how: dict[str, object], reason: str, server: UnreliableServer, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"127.0.0.1 {reason}") as caught:
        get(tmp_path, server(**how))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "file").exists()
    get(tmp_path, server(**how), server())
    assert whole(tmp_path)


def test_a_slow_advance_is_an_advance(
    server: UnreliableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"The 50,000 bytes that came are kept"):
        get(tmp_path / "first", server(cut=10_000))
    monkeypatch.setattr("recascade.data.fetch.download._PROGRESS_BYTES", 10_000)
    get(tmp_path / "second", server(cut=10_000))
    assert whole(tmp_path / "second")


def test_a_server_that_cuts_and_corrupts_is_given_up(
    server: UnreliableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recascade.data.fetch.download._PROGRESS_BYTES", 10_000)
    with pytest.raises(DataError, match="another checksum"):
        get(tmp_path, server(cut=50_000, flip=1))
    assert len(server.asked) == 6


def test_a_kept_beginning_is_told_of_and_used_by_the_next_command(server: UnreliableServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The 30,000 bytes that came are kept"):
        get(tmp_path, server(cut=30_000, ranges="no"))
    get(tmp_path, server())
    assert whole(tmp_path) and server.ranges[-1] == "bytes=30000-"


def test_a_wrong_beginning_is_thrown_away(server: UnreliableServer, tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_bytes(b"something else")
    get(tmp_path, server())
    assert whole(tmp_path) and server.ranges == ["bytes=14-", ""]
    (tmp_path / "file").unlink()
    (tmp_path / ".file.partial").write_bytes(CONTENT + b"more")
    get(tmp_path, server())
    assert whole(tmp_path)


def test_a_whole_beginning_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_bytes(CONTENT)
    get(tmp_path, NOBODY)
    assert whole(tmp_path)


def test_a_whole_beginning_of_unknown_size_costs_one_question(server: UnreliableServer, tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_bytes(CONTENT)
    get(tmp_path, server(), size=None)
    assert whole(tmp_path) and server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_server_that_does_not_stop_fills_no_disk(server: UnreliableServer, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT * 64
    with pytest.raises(DataError, match=r"sends more than the 131,072 bytes"):
        get(tmp_path, server(whole="no"))
    assert sum(entry.stat().st_size for entry in tmp_path.iterdir()) < len(CONTENT)


def test_no_network_is_one_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no network connection for file: 127\.0\.0\.1 cannot be reached"):
        get(tmp_path, NOBODY, "http://127.0.0.1:10/file")
    with pytest.raises(DataError, match=r"nowhere\.invalid cannot be reached .* put the file into .* yourself"):
        get(tmp_path, "https://nowhere.invalid/file")


def test_https_is_checked(server: UnreliableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"127\.0\.0\.1 does not speak https \(\w+\)"):
        get(tmp_path, server().replace("http:", "https:"))
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate = tmp_path / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=local -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", certificate, "-out", tmp_path / "public.pem"],
        check=True,
        capture_output=True,
    )
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "public.pem").read_bytes())
    with unreliable_server(certificate) as protected:
        with pytest.raises(DataError, match=r"has a certificate that is not trusted \(self.signed certificate\)"):
            get(tmp_path / "cache", protected())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
        get(tmp_path / "cache", protected(cut=40_000))
    assert whole(tmp_path / "cache")


def test_a_file_put_there_by_hand_is_taken_if_it_is_right(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert get(tmp_path, NOBODY) == SHA256
    (tmp_path / "file").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DataError, match="no network"):
        get(tmp_path, NOBODY)


def test_a_file_that_went_bad_is_fetched_again(server: UnreliableServer, tmp_path: Path) -> None:
    get(tmp_path, server())
    (tmp_path / "file").write_bytes(CONTENT[::-1])
    get(tmp_path, server())
    assert whole(tmp_path) and len(server.asked) == 2


def test_an_unchanged_file_is_not_read_again(
    server: UnreliableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(tmp_path, server())
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it was read"))
    get(tmp_path, NOBODY)


class TestWithoutAChecksum:
    def get(self, folder: Path, *urls: str) -> str:
        return get(folder, *urls, size=None, checksum="")

    def test_the_first_one_is_recorded_openly_and_must_hold(self, server: UnreliableServer, tmp_path: Path) -> None:
        assert self.get(tmp_path, server()) == SHA256
        record = json.loads((tmp_path / "checksums.json").read_text())["file"]
        assert record["checksum"] == SHA256 and "nobody" in record["vouched_by"] and record["from"] == server()
        (tmp_path / "file").unlink()
        with pytest.raises(DataError, match=r"has another file now than at the first fetch \(remove .*checksums\.json"):
            self.get(tmp_path, server(flip=1))
        assert self.get(tmp_path, server()) == SHA256

    def test_parts_of_two_versions_are_never_put_together(self, server: UnreliableServer, tmp_path: Path) -> None:
        cut = server(cut=30_000, ranges="no", times=5)
        with pytest.raises(DataError, match="are kept"):
            self.get(tmp_path, cut)
        server.files["/file"], server.version = CONTENT[::-1], '"2"'
        self.get(tmp_path, cut)
        assert (tmp_path / "file").read_bytes() == CONTENT[::-1]

    def test_parts_of_two_servers_are_never_put_together(self, server: UnreliableServer, tmp_path: Path) -> None:
        server.files["/other"] = CONTENT[::-1]
        self.get(tmp_path, server(cut=30_000, ranges="no"), server("other"))
        assert (tmp_path / "file").read_bytes() == CONTENT[::-1]

    def test_a_part_that_was_not_asked_for_is_not_used(self, server: UnreliableServer, tmp_path: Path) -> None:
        self.get(tmp_path, server(cut=40_000, shift=-3, times=2))
        assert whole(tmp_path)

    def test_parts_of_one_version_are(self, server: UnreliableServer, tmp_path: Path) -> None:
        self.get(tmp_path, server(cut=40_000))
        assert whole(tmp_path) and server.ranges[1:] == ["bytes=40000-", "bytes=80000-", "bytes=120000-"]

    def test_an_unprotected_redirection_is_refused(self, server: UnreliableServer, tmp_path: Path) -> None:
        # Another name of this machine's loopback address that is not among those that need no protection.
        elsewhere = server().replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(DataError, match=r"leads to an unprotected address \(http\), and there is no checksum"):
            self.get(tmp_path, server(to=elsewhere))
        assert get(tmp_path, server(to=elsewhere)) == SHA256


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(server: UnreliableServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="permission denied"):
        get(tmp_path, server())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(CONTENT)), max_size=4), known=st.booleans())
def test_however_it_is_cut_the_file_is_whole(
    cuts: list[int], known: bool, server: UnreliableServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    urls = [server(cut=cut, times=1, part=place) for place, cut in enumerate(cuts)]
    get(folder, *urls, server(), size=len(CONTENT) if known else None)
    assert whole(folder)
