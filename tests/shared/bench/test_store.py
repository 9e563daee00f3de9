from __future__ import annotations

import json
from pathlib import Path

import pytest

from recascade.bench.config import compose, save
from recascade.bench.registry import find_method
from recascade.bench.store import CONFIG_FILE, RESULT_FILE, Run, find_runs, run_directory
from recascade.errors import DataError


def make_run(output: Path, seed: int = 0, result: str | None = None) -> Run:
    config = compose(find_method("sasrec"), data="log", seed=seed)
    directory = run_directory(output, "log", "0123456789abcdef", config)
    save(config, directory / CONFIG_FILE)
    if result is not None:
        (directory / RESULT_FILE).write_text(result)
    return Run(directory)


def test_the_directory_says_data_split_method_variant_and_seed() -> None:
    config = compose(find_method("sasrec"), data="log", seed=2, overrides={"model.dimension": 32})
    directory = run_directory(Path("runs"), "my data/2024", "0123456789abcdef", config)
    assert directory.parts[:3] == ("runs", "my_data_2024-0123456789abcdef", "sasrec")
    assert directory.parts[3].startswith("default-")
    assert directory.parts[4] == "seed-2"


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (None, "unfinished"),
        (json.dumps({"format": 1, "status": "finished"}), "finished"),
        (json.dumps({"format": 1, "status": "failed"}), "failed"),
    ],
)
def test_the_result_decides_the_state(tmp_path: Path, result: str | None, state: str) -> None:
    assert make_run(tmp_path, result=result).state == state


@pytest.mark.parametrize("result", ['{"format": 1, "stat', "[]", '{"format": 7}', ""])
def test_a_damaged_result_is_one_sentence(tmp_path: Path, result: str) -> None:
    with pytest.raises(DataError, match=r"result\.json"):
        _ = make_run(tmp_path, result=result).state


def test_runs_are_found_wherever_the_search_begins(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed) for seed in (0, 1, 2)]
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / CONFIG_FILE).write_text("not a run")
    directories = [run.directory for run in runs]
    assert [run.directory for run in find_runs(tmp_path)] == directories
    assert [run.directory for run in find_runs(directories[1])] == directories[1:2]
    assert [run.directory for run in find_runs([directories[1], tmp_path])] == directories


def test_a_folder_without_runs_and_a_missing_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        find_runs(tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        find_runs(tmp_path / "absent")
