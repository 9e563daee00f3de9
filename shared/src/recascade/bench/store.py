"""Run directories on disk: where a run lies, what state it is in, and the runs below a folder.

``<output>/<data>-<split fingerprint>/<method>/<variant>[-<hash of the changes>]/seed-<n>/`` holds one run:
``config.yaml`` first of all, ``result.json`` last of all. A run without a ``result.json`` was interrupted and goes on
when asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from recascade.bench.config import RunConfig, folder_name, load
from recascade.errors import DataError
from recascade.files import read_json

CONFIG_FILE = "config.yaml"
SOURCES_FILE = "sources.json"
RESULT_FILE = "result.json"
METRICS_FILE = "metrics.parquet"
LISTS_FILE = "lists.parquet"
CURVES_FILE = "curves.csv"
LOG_FILE = "log.txt"
CHOICE_FOLDER = "choice"
"""Under ``trainer.refit``: the fit on training events alone, whose validation chose the number of epochs."""

SHARED_FOLDER = ".shared"
"""Beside the methods of a split: what several of its runs need. The dot keeps it from being searched for runs."""

State = Literal["finished", "failed", "unfinished"]


@dataclass(frozen=True)
class Run:
    """One run directory, read when asked."""

    directory: Path

    @cached_property
    def config(self) -> RunConfig:
        """The complete configuration."""
        return load(self.directory / CONFIG_FILE)

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """What ``result.json`` says, None while the run is unfinished.

        Raises:
            DataError: the file is not a result of a format this version reads.
        """
        path = self.directory / RESULT_FILE
        if not path.exists():
            return None
        result = read_json(path)
        if not isinstance(result, dict) or result.get("format") != 1:
            raise DataError(f"{path} is not a result that this version reads; delete its folder and run again.")
        return result

    @property
    def curves(self) -> Path:
        """The log of the fit that validation looked at; there is none before the first epoch's end."""
        chosen = self.directory / CHOICE_FOLDER / CURVES_FILE
        return chosen if chosen.exists() else self.directory / CURVES_FILE

    @property
    def state(self) -> State:
        """``finished``, ``failed`` (it said why; asked for again, it is tried again) or ``unfinished``."""
        if self.result is None:
            return "unfinished"
        return "finished" if self.result["status"] == "finished" else "failed"


def run_directory(output: Path, data_name: str, split_fingerprint: str, config: RunConfig) -> Path:
    """Where the run of this configuration lies below ``output``."""
    data = re.sub(r"[^\w.-]+", "_", data_name)
    return output / f"{data}-{split_fingerprint}" / config.method / folder_name(config) / f"seed-{config.seed}"


def find_runs(folders: Path | Iterable[Path]) -> list[Run]:
    """All runs in or below the folders, whatever their state, ordered by path, each once.

    Raises:
        DataError: a folder is missing or holds no run.
    """
    found: dict[Path, Run] = {}
    for folder in [folders] if isinstance(folders, Path) else folders:
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.")
        runs = list(_walk(folder))
        if not runs:
            raise DataError(f"{folder} holds no run; a run is a folder with a {CONFIG_FILE} in it.")
        found |= {run.directory.resolve(): run for run in runs}
    return [found[path] for path in sorted(found)]


def _walk(folder: Path) -> Iterator[Run]:
    if (folder / CONFIG_FILE).is_file():
        yield Run(folder)
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            yield from _walk(child)
