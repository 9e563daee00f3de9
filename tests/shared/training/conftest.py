from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def small_fit() -> ModuleType:
    """The module ``small_fit``, which is also a script for killed fits."""
    import small_fit

    return small_fit
