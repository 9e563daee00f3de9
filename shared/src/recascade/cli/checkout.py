"""A checkout of this repository learns of a new method: the lines of its settings that name every package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from recascade.cli.skeleton import Names
from recascade.errors import DataError
from recascade.files import write_atomically


def is_checkout(folder: Path) -> bool:
    """Whether the folder holds the umbrella distribution of recascade."""
    umbrella = folder / "pyproject.toml"
    if not (umbrella.is_file() and (folder / "shared" / "pyproject.toml").is_file()):
        return False
    try:
        project = tomllib.loads(umbrella.read_text(encoding="utf-8")).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{umbrella} is not TOML ({error}); mend it first.") from error
    return bool(project.get("name") == "recascade")


def register(names: Names, folder: Path) -> list[Path]:
    """Add the method to ``pyproject.toml`` and to the navigation of ``mkdocs.yml``; returns what was changed."""
    changes = {folder / "pyproject.toml": _with_package, folder / "mkdocs.yml": _with_page}
    changed = []
    for path, change in changes.items():
        if path.is_file():
            text = change(path.read_text(encoding="utf-8"), names)
            with write_atomically(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def _with_package(text: str, names: Names) -> str:
    """An extra of its own and in ``all``; checked by mypy; held apart from other packages by import-linter."""
    source, module = f"packages/{names.name}/src", f"recascade_{names.module}"
    extra = f'{names.name} = ["recascade-{names.name} @ {{root:uri}}/packages/{names.name}"]\n'
    extras = list(re.finditer(r'^[\w-]+ = \["recascade-[\w-]+ @ \{root:uri\}/packages/[\w-]+"\]\n', text, re.MULTILINE))
    place = (
        extras[-1].end()
        if extras
        else text.index("[project.optional-dependencies]\n") + len("[project.optional-dependencies]\n")
    )
    text = text[:place] + extra + text[place:]
    text = re.sub(r'(^all = \["recascade\[[^\]]*)\]', rf"\1,{names.name}]", text, count=1, flags=re.MULTILINE)
    for key in ("files", "mypy_path"):
        text = _appended(text, "[tool.mypy]", key, source)
    text = _appended(text, "[tool.importlinter]", "root_packages", module)
    for section, key in (
        ("Method packages stand below the benchmark", "source_modules"),
        ("Method packages do not import each other", "modules"),
        ("The shared core imports no method package", "forbidden_modules"),
    ):
        text = _appended(text, f'name = "{section}"', key, module)
    tomllib.loads(text)
    return text


def _appended(text: str, after: str, key: str, value: str) -> str:
    """One more string at the end of the list ``key`` that follows ``after``; the list may stand in several lines."""
    begin = text.find(after)
    found = re.compile(rf"^{key} = \[(?P<members>[^\]]*)\]", re.MULTILINE).search(text, max(begin, 0))
    if begin < 0 or found is None:
        raise DataError(f"pyproject.toml has no list {key!r} after {after!r}; add {value!r} by hand.")
    members = found["members"]
    if members.rstrip().endswith(",") and "\n" in members:
        indent = re.search(r"\n([ \t]+)\S[^\n]*\n?[ \t]*$", members)
        longer = f'{members.rstrip()}\n{indent[1] if indent else "    "}"{value}",\n'
    else:
        longer = f'{members.rstrip()}{", " if members.strip() else ""}"{value}"'
    return text[: found.start("members")] + longer + text[found.end("members") :]


def _with_page(text: str, names: Names) -> str:
    """One more page under ``Methods``, after the last one there."""
    found = re.search(r"^(?P<indent> +)- Methods:\n(?P<pages>(?:(?P=indent) +- .*\n)+)", text, re.MULTILINE)
    if found is None:
        raise DataError(f"mkdocs.yml has no group 'Methods'; add docs/{names.name}.md to its navigation by hand.")
    deeper = re.match(" +", found["pages"])
    line = f"{deeper[0] if deeper else ''}- {names.title}: {names.name}.md\n"
    return text[: found.end("pages")] + line + text[found.end("pages") :]
