"""What the pages say can be typed: commands and settings exist, Python examples run, every method has its line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from recascade.bench.config import compose
from recascade.bench.registry import find_method, installed_methods
from recascade.cli.main import command
from recascade.settings import parse_overrides

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def documented_commands() -> list[str]:
    """Every line of a shell block that calls recascade."""
    lines = {line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()}
    return sorted(line for line in lines if line.startswith("recascade "))


@pytest.mark.parametrize("line", documented_commands())
def test_documented_command_is_understood(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    current: click.Command = command
    context = click.Context(command)
    while isinstance(current, click.Group):
        name = words.pop(0)
        found = current.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        current, context = found, click.Context(found, parent=context)
    if line.startswith("recascade run"):
        given = current.make_context("run", words).params
        overrides = parse_overrides(given["overrides"])
        compose(find_method(given["method"]), data="", variant=given["variant"], overrides=overrides)
    else:
        # Only parsed: the files that other commands name need not exist here.
        current.make_parser(context).parse_args(words)


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    names: dict[str, object] = {}
    for block in blocks(REPOSITORY / "docs" / "quick-start.md", "python"):
        exec(compile(block, "quick-start.md", "exec"), names)
    assert (tmp_path / "per-user.parquet").is_file()
    assert (tmp_path / "sasrec" / "weights.safetensors").is_file()


def test_every_method_of_the_shared_core_is_on_the_baselines_page() -> None:
    page = (REPOSITORY / "docs" / "baselines.md").read_text(encoding="utf-8")
    ours = [name for name, method in installed_methods().items() if method.fit.startswith("recascade.baselines")]
    assert ours
    assert [name for name in ours if f"| `{name}` |" not in page] == []
