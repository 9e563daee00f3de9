"""The catalogue of data sets that can be fetched: where their files lie, what these must be, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from recascade.data.home import home
from recascade.errors import ConfigurationError, did_you_mean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")
_ENTRY_KEYS = ("about", "terms", "checked", "adapter", "source", "options", "files")
_FILE_KEYS = ("urls", "size", "checksum")


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes:
        name: in the cache; no folder.
        urls: the same file at several places, tried in this order.
        size: in bytes; None: not known before.
        checksum: ``sha256:`` or ``md5:`` and hexadecimal digits; empty: none is published, and that of the first fetch
            is recorded and must hold from then on.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    checksum: str = ""


@dataclass(frozen=True)
class CatalogueEntry:
    """One data set that can be fetched by name.

    Attributes:
        name: as typed after ``recascade data fetch`` and then after ``--data``.
        about: what it is, in one line.
        terms: the licence or the terms of use, in one sentence.
        checked: who states the sizes and checksums.
        adapter: the name of the adapter that reads it.
        source: the file that the adapter gets; ``.`` for the folder of all files. One file alone need not be named.
        options: the adapter's; a value that is the name of a file stands for its path.
        files: what is fetched.
    """

    name: str
    about: str
    terms: str
    checked: str
    adapter: str
    source: str
    options: Mapping[str, str]
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where the size of one is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def user_catalogue() -> Path:
    """Where users add entries of their own, in the layout of the built-in catalogue."""
    return home() / "catalogue.yaml"


def catalogue() -> dict[str, CatalogueEntry]:
    """All entries by name; an entry of the user's takes the place of a built-in one of its name.

    Raises:
        ConfigurationError: the user's file is no such catalogue; it names the entry and the key.
    """
    built_in = files("recascade.data.fetch") / "catalogue.yaml"
    entries = _parse(built_in.read_text(encoding="utf-8"), "the built-in catalogue")
    own = user_catalogue()
    if own.is_file():
        entries |= _parse(own.read_text(encoding="utf-8", errors="replace"), str(own))
    return entries


def _parse(text: str, where: str) -> dict[str, CatalogueEntry]:
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{where} is no YAML{line}; correct it or remove it.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{where} must map names to entries (about, terms, adapter, files).")
    return {str(name): _entry(str(name), entry, where) for name, entry in content.items()}


def _entry(name: str, content: Any, where: str) -> CatalogueEntry:
    place = f"Entry {name!r} of {where}"
    _check_name(name, place)
    _check_keys(content, _ENTRY_KEYS, ("adapter", "files"), place)
    described = content["files"]
    if not isinstance(described, dict) or not described:
        raise ConfigurationError(f"{place}: files must map file names to their urls.")
    fetched = tuple(_file(str(file), facts, place) for file, facts in described.items())
    options = content.get("options") or {}
    if not isinstance(options, dict):
        raise ConfigurationError(f"{place}: options must map names to values.")
    if "source" not in content and len(fetched) > 1:
        raise ConfigurationError(f"{place} has several files; name the one that the adapter gets with source, or '.'.")
    source = str(content.get("source", fetched[0].name))
    if source != "." and source not in described:
        raise ConfigurationError(f"{place}: source {source!r} is none of its files.{did_you_mean(source, described)}")
    return CatalogueEntry(
        name=name,
        about=str(content.get("about", "")),
        terms=str(content.get("terms", "")),
        checked=str(content.get("checked", "")),
        adapter=str(content["adapter"]),
        source=source,
        options={str(key): str(value) for key, value in options.items()},
        files=fetched,
    )


def _file(name: str, content: Any, place: str) -> RemoteFile:
    place = f"{place}, file {name!r}"
    _check_name(name, place)
    _check_keys(content, _FILE_KEYS, ("urls",), place)
    urls = content["urls"]
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ConfigurationError(f"{place}: urls must be one address or several.")
    size = content.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ConfigurationError(f"{place}: size {size!r} is no number of bytes.")
    checksum = str(content.get("checksum") or "").lower()
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise ConfigurationError(f"{place}: checksum {checksum!r} is none; write sha256: and 64 hexadecimal digits.")
    for url in urls:
        check_address(url, checksum, place)
    return RemoteFile(name, tuple(urls), size, checksum)


def check_address(url: str, checksum: str, place: str) -> None:
    """Refuse what is no web address, and an unprotected one whose content no checksum vouches for.

    Raises:
        ConfigurationError: naming the address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(f"{place}: {url!r} is no address; it must begin with https://.")
    if parts.scheme == "http" and not checksum and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigurationError(
            f"{place}: {url!r} is not protected (http) and no checksum says what it must be; use https, or give one."
        )


def _check_name(name: str, place: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{place}: {name!r} is no name; use letters, digits, '.', '_' and '-'.")


def _check_keys(content: Any, known: tuple[str, ...], needed: tuple[str, ...], place: str) -> None:
    if not isinstance(content, dict):
        raise ConfigurationError(f"{place} must hold {', '.join(known)}.")
    for key in content:
        if key not in known:
            raise ConfigurationError(f"{place} has an unknown key {str(key)!r}.{did_you_mean(str(key), known)}")
    for key in needed:
        if key not in content:
            raise ConfigurationError(f"{place} lacks {key!r}.")
