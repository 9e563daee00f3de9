"""Import cost is paid by who needs it: configurations, the registry and the command line load no heavy library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recascade.cli.main import COMMANDS

SOURCE = Path(__file__).resolve().parents[2] / "shared" / "src"
HEAVY = {"torch", "lightning", "polars", "pyarrow", "numpy", "scipy", "pandas"}
PATTERNS = (
    "recascade/**/*config.py",
    "recascade/**/__init__.py",
    "recascade/*/method.py",
    "recascade/bench/registry.py",
    "recascade/data/split_manifest.py",
)
LIGHT = sorted(
    {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for pattern in PATTERNS
        for path in SOURCE.glob(pattern)
    }
    | {f"recascade.cli.{name.replace('-', '_')}" for name in COMMANDS}
)


def loaded_by(statements: str) -> set[str]:
    """The heavy libraries that are loaded after statements whose output does not matter, in a fresh interpreter."""
    code = (
        "import contextlib, io, sys\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    {statements}\n"
        f"print(*({HEAVY!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_light_modules_load_nothing_heavy() -> None:
    assert len(LIGHT) > 15
    together = loaded_by("; ".join(f"import {module}" for module in LIGHT))
    guilty = {module: found for module in LIGHT if together and (found := loaded_by(f"import {module}"))}
    assert guilty == {}


@pytest.mark.parametrize("words", [["--help"], ["methods"], ["--version"]])
def test_commands_that_only_tell_load_nothing_heavy(words: list[str]) -> None:
    run = f"from recascade.cli.main import command; command.main({words!r}, standalone_mode=False)"
    assert loaded_by(run) == set()
