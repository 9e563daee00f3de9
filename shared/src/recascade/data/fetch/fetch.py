"""Fetch a data set by its name in the catalogue, and import it where every command finds it by that name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from recascade.data.adapters.registry import ADAPTERS, import_dataset
from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.fetch.catalogue import CatalogueEntry, catalogue, user_catalogue
from recascade.data.fetch.download import Patience, download
from recascade.data.home import home
from recascade.errors import ConfigurationError, did_you_mean
from recascade.locks import alone_in

FileReport = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes of it that are there, and the bytes there will be (None: not known)."""


def fetch(name: str, report: FileReport, patience: Patience) -> Dataset:
    """Make the data set ``name`` be in ``RECASCADE_HOME/datasets``; nothing is asked of the network where it is.

    Its files stay in ``RECASCADE_HOME/downloads/NAME``, and may be removed. Another process that fetches the same set
    waits for this one, and then finds it.

    Args:
        name: of the catalogue.
        report: is told how far each file is.
        patience: with the servers.

    Raises:
        ConfigurationError: the catalogue has no such name, or is broken.
        DataError: a file cannot be fetched, or is not what its adapter reads.
    """
    entries = catalogue()
    if name not in entries:
        raise ConfigurationError(
            f"The catalogue has no data set {name!r}.{did_you_mean(name, entries)} "
            f"Entries of your own go into {user_catalogue()}."
        )
    entry = entries[name]
    if entry.adapter not in ADAPTERS:
        raise ConfigurationError(
            f"The catalogue reads {name!r} with an adapter {entry.adapter!r} that there is not."
            f"{did_you_mean(entry.adapter, ADAPTERS)}"
        )
    destination = dataset_folder(name)
    folder = home() / "downloads" / name
    if not (destination / MANIFEST).is_file():
        with alone_in(folder):
            if not (destination / MANIFEST).is_file():
                for file in entry.files:
                    download(file, folder, partial(report, file.name), patience)
                return import_dataset(
                    entry.adapter, folder / entry.source, destination, _options(entry, folder), name, entry.terms
                )
    return Dataset.open(destination)


def dataset_folder(name: str) -> Path:
    """Where a fetched data set is imported to."""
    return home() / "datasets" / name


def _options(entry: CatalogueEntry, folder: Path) -> dict[str, str]:
    names = {file.name for file in entry.files}
    return {key: str(folder / value) if value in names else value for key, value in entry.options.items()}
