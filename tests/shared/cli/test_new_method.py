"""A method that ``recascade new-method`` writes: it installs, runs, and passes its own tests and the house's lint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from recascade.cli.new_method import command
from recascade.errors import ConfigurationError, DataError

REPOSITORY = Path(__file__).resolve().parents[3]


def new_method(name: str, folder: Path) -> str:
    done = CliRunner().invoke(command, [name, "--folder", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def run(*words: str | Path, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout is known by, with a method put into it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "mkdocs.yml", "LICENSE", "shared/pyproject.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    # Ruff tells imports of this project from foreign ones by what lies in the checkout.
    (folder / "shared" / "src").symlink_to(REPOSITORY / "shared" / "src")
    new_method("my-method", folder)
    return folder


@pytest.mark.parametrize("name", ["x", "my-method", "a-method-with-a-rather-long-name-of-its-own"])
def test_files_of_any_name_are_formatted_and_lint_free(name: str, tmp_path: Path) -> None:
    new_method(name, tmp_path)
    run("ruff", "format", "--check", ".", cwd=tmp_path / name)
    run("ruff", "check", ".", cwd=tmp_path / name)


def test_files_in_a_checkout_pass_its_own_checks(checkout: Path) -> None:
    run("ruff", "format", "--check", "packages", "tests", cwd=checkout)
    run("ruff", "check", "packages", "tests", cwd=checkout)
    for path in ("packages/my-method/LICENSE", "tests/my-method/test_my_method.py", "docs/my-method.md"):
        assert (checkout / path).is_file()
    assert not (checkout / "tests/my-method/__init__.py").exists()


def test_a_checkout_learns_of_the_method_and_of_nothing_else(checkout: Path) -> None:
    before = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    after = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    extras = after["project"]["optional-dependencies"]
    assert extras.pop("my-method") == ["recascade-my-method @ {root:uri}/packages/my-method"]
    assert extras["all"] == [before["project"]["optional-dependencies"]["all"][0].replace("]", ",my-method]")]
    extras["all"] = before["project"]["optional-dependencies"]["all"]
    for key in ("files", "mypy_path"):
        assert after["tool"]["mypy"][key].pop() == "packages/my-method/src"
    lint = after["tool"]["importlinter"]
    assert lint["root_packages"].pop() == "recascade_my_method"
    changed = {
        "Method packages stand below the benchmark": "source_modules",
        "Method packages do not import each other": "modules",
        "The shared core imports no method package": "forbidden_modules",
    }
    for contract in lint["contracts"]:
        if contract["name"] in changed:
            assert contract[changed[contract["name"]]].pop() == "recascade_my_method"
    assert after == before
    pages = yaml.load((checkout / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)["nav"]
    (methods,) = (page["Methods"] for page in pages if "Methods" in page)
    assert methods[-1] == {"MyMethod": "my-method.md"}


def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for name, sentence in (
        ("My_Method", "cannot be a method's name"),
        ("sasrec", "already"),
        ("psad", "already"),
        ("serve", "something else"),
        ("class", "cannot be"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            new_method(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    new_method("mine", tmp_path)
    (tmp_path / "mine" / "README.md").write_text("edited")
    with pytest.raises(DataError, match="exists already"):
        new_method("mine", tmp_path)
    assert (tmp_path / "mine" / "README.md").read_text() == "edited"


@pytest.mark.install
def test_the_method_installs_runs_and_passes_its_tests(tmp_path: Path, log: Path) -> None:
    new_method("mine", tmp_path)
    package, site = tmp_path / "mine", tmp_path / "site"
    pip = ("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, package)
    run(*pip, cwd=tmp_path)
    environment = {"PYTHONPATH": str(site), "RECASCADE_HOME": str(tmp_path / "home")}
    recascade = "recascade.cli.main"
    assert "axis recent=1,5,10,50" in run(recascade, "methods", "mine", cwd=tmp_path, environment=environment)
    settings = ("trainer.max_epochs=1", "trainer.accelerator=cpu")
    run(recascade, "run", "mine", "--data", log, *settings, "--jobs", "1", cwd=tmp_path, environment=environment)
    (result,) = tmp_path.glob("runs/*/mine/default-*/seed-0/result.json")
    assert json.loads(result.read_text())["status"] == "finished"
    assert "3 passed" in run("pytest", "-q", "-p", "no:cacheprovider", cwd=package, environment=environment)
