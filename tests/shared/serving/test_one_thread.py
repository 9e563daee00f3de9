from __future__ import annotations

import subprocess
import sys

import pytest


def test_all_libraries_are_left_with_one_thread() -> None:
    pytest.importorskip("threadpoolctl")
    program = (
        "import numpy, torch; torch.set_num_threads(3)\n"
        "from threadpoolctl import threadpool_info, threadpool_limits; threadpool_limits(2)\n"
        "from recascade.serving.one_thread import compute_on_one_thread; compute_on_one_thread()\n"
        "print(torch.get_num_threads(), sorted({library['num_threads'] for library in threadpool_info()}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "[1]"]


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from recascade.errors import MissingDependencyError
    from recascade.serving.one_thread import compute_on_one_thread

    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "recascade\[serve\]"'):
        compute_on_one_thread()
