"""The files of a new method, from templates."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from recascade import __version__
from recascade.bench.registry import KNOWN_METHODS, installed_methods
from recascade.errors import ConfigurationError, DataError
from recascade.files import write_atomically

_SOURCES = ("__init__.py", "config.py", "model.py", "fit.py", "method.py")


@dataclass(frozen=True)
class Names:
    """A method's name in its three spellings.

    Attributes:
        name: as typed, ``my-method``.
        module: in imports, ``my_method``.
        title: of its classes, ``MyMethod``.
    """

    name: str
    module: str
    title: str

    @classmethod
    def of(cls, name: str) -> Names:
        """All spellings of a name.

        Raises:
            ConfigurationError: it cannot be a name, or a method or command has it.
        """
        from recascade.cli.main import COMMANDS

        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
            raise ConfigurationError(
                f"{name!r} cannot be a method's name; write small letters, digits and single hyphens, as my-method."
            )
        if name in {*installed_methods(), *KNOWN_METHODS}:
            raise ConfigurationError(f"There is a method {name!r} already; choose another name.")
        if name in (*COMMANDS, "shared"):
            raise ConfigurationError(f"{name!r} means something else to the command recascade; choose another name.")
        title = "".join(part.capitalize() for part in name.split("-"))
        return cls(name, name.replace("-", "_"), title)


def write_skeleton(names: Names, folder: Path, inside: bool) -> list[Path]:
    """Write all files of a method.

    Args:
        names: of the method.
        folder: a checkout of recascade, or any folder.
        inside: whether it is a checkout.

    Returns:
        The paths, in the order written.

    Raises:
        DataError: one of them exists; nothing is written then.
    """
    package = folder / "packages" / names.name if inside else folder / names.name
    source = package / "src" / f"recascade_{names.module}"
    tests = folder / "tests" / names.name if inside else package / "tests"
    docs = folder / "docs" if inside else package / "docs"
    templates = {
        package / "pyproject.toml": "pyproject.toml",
        package / "README.md": "README.md",
        **{source / name: name for name in _SOURCES},
        source / "py.typed": "py.typed",
        tests / f"test_{names.module}.py": "test_method.py",
        docs / f"{names.name}.md": "page.md",
    }
    existing = [path for path in (package, *templates) if path.exists()]
    if existing:
        raise DataError(f"{existing[0]} exists already; choose another name, or move it away.")
    environment = Environment(
        loader=PackageLoader("recascade.cli", "skeleton_files"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    facts = {"name": names.name, "module": names.module, "title": names.title, "inside": inside, "core": __version__}
    for path, template in templates.items():
        text = environment.get_template(f"{template}.jinja").render(facts)
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    licence = folder / "LICENSE"
    if inside and licence.is_file():
        with write_atomically(package / "LICENSE") as temporary:
            temporary.write_text(licence.read_text(encoding="utf-8"), encoding="utf-8")
        return [*templates, package / "LICENSE"]
    return list(templates)
