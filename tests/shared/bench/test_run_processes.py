from __future__ import annotations

import operator
from pathlib import Path

import pytest

from recascade.bench.run_processes import run_in_processes
from recascade.errors import TrainingError
from recascade.files import require_new_folder


def test_result_is_that_of_the_first_process() -> None:
    assert run_in_processes(operator.add, (1, 2), 2) == 3


def test_sentence_of_a_process_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="exists and is not empty"):
        run_in_processes(require_new_folder, (tmp_path,), 2)


# Only functions that can be imported reach another process, and ``exec`` is one: process 1 fails, process 0 goes on.
@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        ("os.kill(os.getpid(), 9)", "Process 1 of this run was killed by signal 9; the same command goes on"),
        ("os._exit(3)", "Process 1 of this run ended with status 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_failure_of_one_process_ends_the_others(failure, sentence, tmp_path: Path) -> None:
    survivor = tmp_path / "survivor"
    body = f"import os, pathlib, time\n{failure} if os.environ['RANK'] == '1' else time.sleep(30)\n"
    with pytest.raises(TrainingError, match=sentence):
        run_in_processes(exec, (body + f"pathlib.Path({str(survivor)!r}).touch()",), 2)
    assert not survivor.exists()


def test_process_that_lost_another_one_is_not_to_blame() -> None:
    lost = "raise RuntimeError('Connection closed by peer [127.0.0.1]:1')"
    body = f"import os, time\nif os.environ['RANK'] == '0': {lost}\ntime.sleep(1); 1 / 0"
    with pytest.raises(TrainingError, match="ZeroDivisionError"):
        run_in_processes(exec, (body,), 2)
