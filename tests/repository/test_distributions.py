"""Every distribution builds a wheel that works away from the checkout, and a checkout brings its parts by extras."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SUITABLE = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "__pycache__", "dist", "runs", "site")

pytestmark = pytest.mark.install


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The standard output of a command that must succeed, run without this process's import paths."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def code_block(language: str, after: str) -> str:
    """The first block of a language in CONTRIBUTING.md after a phrase: what the page tells to write must work."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", page[page.index(after) :], flags=re.DOTALL)
    assert found is not None
    return "\n".join(line.removeprefix("   ") for line in found[1].splitlines()) + "\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with a method package made by following CONTRIBUTING.md to the letter."""
    copy = tmp_path_factory.mktemp("checkout") / "recascade"
    shutil.copytree(REPOSITORY, copy, ignore=SUITABLE)
    package = copy / "packages" / "mine"
    source = package / "src" / "recascade_mine"
    source.mkdir(parents=True)
    (package / "pyproject.toml").write_text(code_block("toml", "**Its metadata**"), encoding="utf-8")
    (source / "__init__.py").write_text('"""A method."""\n', encoding="utf-8")
    config = ("from dataclasses import dataclass", "@dataclass", "class MineConfig:", "    gate: bool = True", "")
    (source / "config.py").write_text("\n".join(config), encoding="utf-8")
    (source / "method.py").write_text(code_block("python", "**Its introduction**"), encoding="utf-8")
    extra = re.search(r"`(mine = \[.*?\])`", (copy / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert extra is not None
    umbrella = copy / "pyproject.toml"
    text = umbrella.read_text(encoding="utf-8")
    umbrella.write_text(text.replace("\nall = [", f"\n{extra[1]}\nall = ["), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheels(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of the distribution → its wheel, built as for a release."""
    destination = tmp_path_factory.mktemp("dist")
    run(sys.executable, "scripts/release_build.py", destination, "--no-isolation", cwd=checkout)
    return {wheel.name.partition("-")[0]: wheel for wheel in destination.glob("*.whl")}


@pytest.fixture(scope="module")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a fresh environment with the wheels; torch and the others are lent by this environment."""
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, *wheels.values(), cwd=home)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    # A plain path line: editable installations of the lending environment stay out, their own .pth lines are not read.
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return home / "bin"


def test_release_metadata_pin_versions_and_hold_no_path(wheels: dict[str, Path]) -> None:
    packages = {f"recascade_{path.parent.name}" for path in REPOSITORY.glob("packages/*/pyproject.toml")}
    assert set(wheels) == {"recascade", "recascade_shared", "recascade_mine", *packages}
    with zipfile.ZipFile(wheels["recascade"]) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    version = wheels["recascade"].name.split("-")[1]
    assert f"Requires-Dist: recascade-shared=={version}" in metadata
    assert "Requires-Dist: recascade-mine==0.1.0; extra == 'mine'" in metadata
    assert "file:" not in metadata
    assert all(".dist-info/" in name for name in names), "the umbrella holds no code"


def test_wheel_of_the_shared_core_holds_its_data_files(checkout: Path, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["recascade_shared"]) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = checkout / "shared" / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - packed == set()
    assert "recascade/py.typed" in packed


def test_command_works_away_from_the_checkout(environment: Path, tmp_path: Path) -> None:
    place = run(environment / "python", "-c", "import recascade; print(recascade.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(environment.parent)
    assert "Usage" in run(environment / "recascade", "--help", cwd=tmp_path)


def test_installed_method_package_is_listed(environment: Path, tmp_path: Path) -> None:
    assert "mine" in run(environment / "recascade", "methods", cwd=tmp_path)


def test_tiny_run_and_report_away_from_the_checkout(environment: Path, tmp_path: Path) -> None:
    rows = [
        f"{user},{(user * 7 + step * step) % 23},{1_000_000 + user * 1000 + step}"
        for user in range(40)
        for step in range(8)
    ]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n", encoding="utf-8")
    command = environment / "recascade"
    quiet = {"RECASCADE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    run(command, "data", "import", "delimited", "log.csv", "log", cwd=tmp_path, **quiet)
    run(command, "run", "popularity", "--data", "log", "--output", "runs", cwd=tmp_path, **quiet)
    results = list((tmp_path / "runs").rglob("result.json"))
    assert len(results) == 1
    assert json.loads(results[0].read_text(encoding="utf-8"))["status"] == "finished"
    run(command, "report", "runs", "--output", "page.html", cwd=tmp_path, **quiet)
    assert "popularity" in (tmp_path / "page.html").read_text(encoding="utf-8")


ALL_METHODS = {f"recascade-{folder.parent.name}" for folder in REPOSITORY.glob("packages/*/pyproject.toml")}


@pytest.mark.parametrize(("extra", "parts"), [("demo", ALL_METHODS), ("mine", {"recascade-mine"})])
def test_checkout_brings_the_shared_core_and_the_extra_alone(
    checkout: Path, tmp_path: Path, extra: str, parts: set[str]
) -> None:
    report = tmp_path / "report.json"
    pip = (sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation", "--quiet")
    run(*pip, "--report", report, f".[{extra}]", cwd=checkout)
    install = json.loads(report.read_text(encoding="utf-8"))["install"]
    ours = {part["metadata"]["name"]: part["download_info"]["url"] for part in install}
    assert {name for name in ours if name.startswith("recascade")} == {"recascade", "recascade-shared", *parts}
    assert all(url.startswith(checkout.as_uri()) for name, url in ours.items() if name.startswith("recascade"))


def test_every_method_package_has_its_extra() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for package in sorted(REPOSITORY.glob("packages/*/pyproject.toml")):
        name = package.parent.name
        assert f'{name} = ["recascade-{name} @ {{root:uri}}/packages/{name}"]' in text
        assert f"packages/{name}/src" in text, "mypy and import-linter must look at it too"
