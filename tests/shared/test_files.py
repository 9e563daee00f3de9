from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from recascade.errors import DataError
from recascade.files import (
    read_json,
    require_new_folder,
    sha256_of,
    write_atomically,
    write_folder_atomically,
    write_json,
)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(RuntimeError), write_atomically(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with write_atomically(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"


def test_a_folder_appears_with_all_its_content_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(RuntimeError), write_folder_atomically(path) as temporary:
        (temporary / "a").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with write_folder_atomically(path) as temporary:
        (temporary / "a").touch()
    assert [entry.name for entry in path.iterdir()] == ["a"]


def test_a_folder_that_another_process_finished_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with write_folder_atomically(path) as temporary:
        (temporary / "mine").touch()
        path.mkdir()
        (path / "theirs").touch()
    assert [entry.name for entry in path.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    sentence = r"disk is full while writing .*file.txt; [\d,]+ bytes free; free some space"
    with pytest.raises(DataError, match=sentence), write_atomically(tmp_path / "file.txt") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("x")


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """The superuser may write anywhere, so it becomes nobody for the time of a test."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_a_forbidden_folder_is_one_sentence(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tmp_path.chmod(0o500)
    request.getfixturevalue("ordinary_user")
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "file.json", {})


def test_json_comes_back_and_refuses_what_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"ä": [1, None]})
    assert read_json(path) == {"ä": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ä": [1, None]}


def test_a_cut_off_json_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": ')
    with pytest.raises(DataError, match=r"file.json is not complete JSON"):
        read_json(path)
    with pytest.raises(DataError, match=r"There is no file .*other.json"):
        read_json(tmp_path / "other.json")


def test_checksum_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"recascade" * 100_000)
    assert sha256_of(path) == hashlib.sha256(b"recascade" * 100_000).hexdigest()


def test_a_taken_destination_is_refused(tmp_path: Path) -> None:
    require_new_folder(tmp_path / "absent")
    require_new_folder(tmp_path)
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(DataError, match="not empty"):
            require_new_folder(taken)
