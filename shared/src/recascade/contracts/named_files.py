"""Files that settings name: a result depends on what is in them, not on where they lie. Importable without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

_MARK = "no file"

_Section = TypeVar("_Section")


def names_a_file(*words: str) -> Mapping[str, Any]:
    """Metadata of a field whose text is the path of a file or of a folder of weights, or empty.

    Args:
        words: values that are no path, as ``text``.
    """
    return {_MARK: frozenset(words)}


def named_files(section: Any, prefix: str) -> Iterator[tuple[str, Path]]:
    """Dotted key and path of every file or folder that is named in a section of settings and is there."""
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from named_files(value, f"{prefix}{item.name}.")
        elif _MARK in item.metadata and value and value not in item.metadata[_MARK]:
            path = Path(value).expanduser()
            if path.exists():
                yield f"{prefix}{item.name}", path


def with_absolute_files(section: _Section) -> _Section:
    """The section with absolute paths: a run may be computed in another folder than that of the command."""
    absolute: dict[str, Any] = {}
    for item in fields(section):  # type: ignore[arg-type]
        value = getattr(section, item.name)
        if is_dataclass(value):
            absolute[item.name] = with_absolute_files(value)
    absolute |= {key: str(path.resolve()) for key, path in named_files(section, "") if "." not in key}
    return replace(section, **absolute)  # type: ignore[type-var]
