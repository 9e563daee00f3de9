from __future__ import annotations

from pathlib import Path

import pytest
import torch
from relaygr_runs import fitted, prepare

from recascade_relaygr.run_folder import ServedRun, read_run


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small ranker; nobody writes into it."""
    folder = tmp_path_factory.mktemp("relaygr") / "run"
    fitted(prepare(tmp_path_factory.mktemp("relaygr")), folder, trainer__max_epochs=1)
    return folder


@pytest.fixture(scope="session")
def run(run_folder: Path) -> ServedRun:
    return read_run(run_folder)
