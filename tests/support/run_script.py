"""Scripts of this folder in a process of their own: a process that has computed gradients must not fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_script(name: str, directory: Path) -> str:
    """What the script printed; it gets the directory as its argument, must end well, and runs on one thread."""
    source = Path(sys.modules["recascade"].__file__ or "").parents[1]
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), str(directory)]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
