"""What the code imports is declared, and what is declared has a lower bound, no upper one, and a tested version."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def declared(folder: str) -> dict[str, str]:
    """Normalised name of each dependency → its version specifier."""
    project = tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for requirement in project["dependencies"]:
        match = re.fullmatch(r"([\w.-]+)(\[[\w,]+\])?(.*)", requirement)
        assert match is not None, requirement
        found[normalised(match[1])] = match[3]
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(source: Path) -> set[str]:
    """Top-level names of every import in a tree, those inside functions included."""
    names = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def test_every_imported_library_is_declared() -> None:
    foreign = imported(REPOSITORY / "shared" / "src") - sys.stdlib_module_names - {"recascade"}
    distributions = packages_distributions()
    known = declared("shared")
    missing = {
        name for name in foreign if not {normalised(part) for part in distributions.get(name, [name])} & known.keys()
    }
    assert missing == set()


def test_bounds_are_lower_bounds() -> None:
    assert {name: bound for name, bound in declared("shared").items() if not re.fullmatch(r">=[\d.]+", bound)} == {}


def test_constraints_pin_every_dependency_within_its_bound() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))

    def version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    for name, bound in declared("shared").items():
        assert version(pins[name]) >= version(bound.removeprefix(">=")), name
