from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gr4ad_runs import Prepared, fitted, prepare


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("gr4ad"))


@pytest.fixture(scope="session")
def run_folder(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that learnt well enough for its beams to matter."""
    folder = tmp_path_factory.mktemp("gr4ad") / "run"
    fitted(prepared, folder, trainer__max_epochs=6)
    return folder
