"""Build every distribution of the repository into one folder, with version pins between them.

In a checkout the umbrella points at its parts by path (``recascade-shared @ {root:uri}/shared``), so that plain pip
takes them from the checkout. Published metadata must not hold such paths: this script builds from a copy in which each
reads ``recascade-shared==VERSION`` instead. Usage: ``python scripts/release_build.py dist``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

DIRECT_REFERENCE = re.compile(r"(?P<name>[\w.\[\],-]+) @ \{root:uri\}/(?P<folder>[\w./-]+)")
NOT_FOR_BUILDS = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "dist", "runs", "site")


def distribution_folders(repository: Path) -> list[Path]:
    """Folders that hold a distribution: the umbrella, the shared core, every method package."""
    packages = sorted(path.parent for path in repository.glob("packages/*/pyproject.toml"))
    return [repository, repository / "shared", *packages]


def version_of(folder: Path) -> str:
    """The version of a distribution, read where its metadata says it stands."""
    metadata = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    if "version" in metadata["project"]:
        return str(metadata["project"]["version"])
    source = folder / metadata["tool"]["hatch"]["version"]["path"]
    found = re.search(r'^__version__ = "(.+)"$', source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f'{source} has no line __version__ = "…"; add one, the build takes the version from there.')
    return found[1]


def pin_versions(pyproject: str, repository: Path) -> str:
    """A ``pyproject.toml`` with ``NAME==VERSION`` in place of each reference to a folder of the checkout."""
    return DIRECT_REFERENCE.sub(
        lambda reference: f"{reference['name']}=={version_of(repository / reference['folder'])}", pyproject
    )


def main() -> None:
    """Build wheels and source archives from a pinned copy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("destination", type=Path, help="folder for wheels and source archives")
    parser.add_argument("--no-isolation", action="store_true", help="build with the hatchling of this environment")
    arguments = parser.parse_args()
    destination = arguments.destination.resolve()
    repository = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "recascade"
        shutil.copytree(repository, copy, ignore=NOT_FOR_BUILDS)
        pyproject = copy / "pyproject.toml"
        pyproject.write_text(pin_versions(pyproject.read_text(encoding="utf-8"), copy), encoding="utf-8")
        for folder in distribution_folders(copy):
            command = [sys.executable, "-m", "build", "--outdir", str(destination), str(folder)]
            subprocess.run([*command, "--no-isolation"] if arguments.no_isolation else command, check=True)


if __name__ == "__main__":
    main()
