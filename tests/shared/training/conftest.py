from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def small_fit() -> ModuleType:
    """The module ``small_fit.py``, which is also a script for killed fits."""
    path = Path(__file__).with_name("small_fit.py")
    specification = importlib.util.spec_from_file_location("small_fit", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
