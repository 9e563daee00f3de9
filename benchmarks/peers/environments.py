"""An environment of its own for each peer library, so that nobody's pins bend anybody else's versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DISTRIBUTIONS = {"rectools": ("RecTools", "0.19.0"), "replay": ("replay-rec", "0.22.0")}


def interpreter(venv_dir: Path, library: str) -> Path:
    """Python of a library's environment; makes the environment where it is missing or unfinished."""
    distribution, version = DISTRIBUTIONS[library]
    python = venv_dir / library / "bin" / "python"
    if not _has(python, distribution, version):
        print(f"Making the environment of {library} in {venv_dir / library} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv_dir / library)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        # The same torch everywhere, and first, so that no resolver picks another build of it.
        torch = f"torch=={_torch_version()}"
        subprocess.run([*install, torch], check=True)
        subprocess.run([*install, torch, f"{distribution}[torch]=={version}"], check=True)
    return python


def _has(python: Path, distribution: str, version: str) -> bool:
    if not python.exists():
        return False
    question = f"from importlib.metadata import version; assert version({distribution!r}) == {version!r}; import torch"
    return subprocess.run([str(python), "-c", question], capture_output=True, check=False).returncode == 0


def one_thread() -> dict[str, str]:
    """Environment variables that hold every library to one thread."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
    return {**os.environ, **dict.fromkeys((*names, "ARROW_NUM_THREADS"), "1")}


def _torch_version() -> str:
    """The version of the running torch, without the name of its build: all libraries compute with the same one."""
    import torch

    return torch.__version__.partition("+")[0]
