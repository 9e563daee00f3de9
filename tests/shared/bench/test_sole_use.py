from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recascade.bench.landmark import Landmark, landmark_in
from recascade.bench.sole_use import sole_use
from recascade.errors import DataError

HOLDER = """
import sys, time
from pathlib import Path
from recascade.bench.sole_use import sole_use

with sole_use(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path: Path):
    """A file whose lock another process holds, and that process."""
    path = tmp_path / "run" / "config.yaml"
    path.parent.mkdir()
    path.touch()
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield path, process
    process.kill()
    process.wait()


def test_a_second_process_is_told_to_wait(held) -> None:
    path, _ = held
    with pytest.raises(DataError, match=r"run is being computed by another process"), sole_use(path, 0.3):
        pytest.fail("two processes held one lock")


def test_a_killed_process_holds_nothing(held) -> None:
    path, process = held
    process.kill()
    begin = time.monotonic()
    with sole_use(path, 30.0):
        assert time.monotonic() - begin < 30.0
    with sole_use(path, 0.0):
        pass


LOOK = """
import sys
from pathlib import Path
from recascade.bench.landmark import Landmark

print(Landmark(Path(sys.argv[1]), *sys.argv[2:]).problem_on("node-7"), end="")
"""


def seen_elsewhere(landmark: Landmark) -> str:
    command = [sys.executable, "-c", LOOK, str(landmark.path), landmark.word, landmark.version]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_machine_that_shares_the_folder_has_no_problem(tmp_path: Path) -> None:
    with landmark_in(tmp_path) as landmark:
        assert seen_elsewhere(landmark) == ""
    assert not list(tmp_path.iterdir())


def test_a_machine_with_a_folder_of_its_own_is_named(tmp_path: Path) -> None:
    with landmark_in(tmp_path) as landmark:
        landmark.path.write_text("the word of another sweep")
        assert f"The folder {tmp_path} is not visible on machine node-7" in seen_elsewhere(landmark)
        landmark.path.unlink()
        assert "is not visible on machine node-7" in seen_elsewhere(landmark)


def test_a_machine_that_the_locks_do_not_reach_is_named(tmp_path: Path) -> None:
    with landmark_in(tmp_path) as landmark:
        # Another file of the same content stands for a file system without locks between machines.
        landmark.path.unlink()
        landmark.path.write_text(landmark.word)
        assert "does not carry file locks to machine node-7" in seen_elsewhere(landmark)


def test_another_version_is_named(tmp_path: Path) -> None:
    with landmark_in(tmp_path) as landmark:
        assert "install the same" in seen_elsewhere(replace(landmark, version="0.0.1"))
