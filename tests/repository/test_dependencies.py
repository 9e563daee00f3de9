"""What the code imports is declared, and what is declared has a lower bound, no upper one, and a tested version."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


FOLDERS = ["shared", *sorted(f"packages/{path.parent.name}" for path in REPOSITORY.glob("packages/*/pyproject.toml"))]
# It brings sentence-transformers and with it a whole ecosystem, which is neither pinned nor installed for the tests.
UNPINNED_EXTRAS = {"text"}


def declared(folder: str, *, without: set[str] = frozenset()) -> dict[str, str]:
    """Normalised name of each dependency, those of extras included → its version specifier."""
    project = tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    found = {}
    for requirement in [*project["dependencies"], *(each for name in extras.keys() - without for each in extras[name])]:
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


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_imported_library_is_declared(folder: str) -> None:
    own = {path.name for path in (REPOSITORY / folder / "src").iterdir()}
    foreign = imported(REPOSITORY / folder / "src") - sys.stdlib_module_names - {"recascade"} - own
    distributions = packages_distributions()
    # A method package builds on the shared core and may use what that one always brings.
    known = declared("shared") | declared(folder)
    missing = {
        name for name in foreign if not {normalised(part) for part in distributions.get(name, [name])} & known.keys()
    }
    assert missing == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_bounds_are_lower_bounds(folder: str) -> None:
    assert {name: bound for name, bound in declared(folder).items() if not re.fullmatch(r">=[\d.]+", bound)} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_constraints_pin_every_dependency_within_its_bound(folder: str) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))

    def version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    for name, bound in declared(folder, without=UNPINNED_EXTRAS).items():
        if name.startswith("recascade"):
            continue
        assert version(pins[name]) >= version(bound.removeprefix(">=")), name
