"""Computes the study's cells, one after the other or several at a time, and writes the page."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from recascade.files import write_atomically
from recascade_relaygr.study.cells import Cell, cells, compose, compute, durations, read_cell
from recascade_relaygr.study.config import REFERENCE
from recascade_relaygr.study.experiments import Experiment, experiments
from recascade_relaygr.study.page import csv_table, render_page
from recascade_relaygr.study.tables import Table, make_table

PAGE = "study.html"
TABLE = "study.csv"


def run_study(
    folder: Path, chosen: Mapping[str, Any], progress: Callable[[int, int], None] = lambda done, all_: None
) -> list[Table]:
    """Compute what is missing in a folder and write its page.

    A study that was stopped goes on where it was; cells of other settings stay where they are and are not used.

    Args:
        folder: where cells, ``study.html`` and ``study.csv`` are written.
        chosen: overrides of ``study.…``, ``workload.…`` and ``relay.…``, by dotted key.
        progress: told how many cells are there, of how many.

    Returns:
        The tables of the page.

    Raises:
        ConfigurationError: an unknown key, or a value that cannot work.
        DataError: the file of measured durations cannot be read.
    """
    study, _, _ = compose({**REFERENCE, **chosen})
    durations(study)
    asked = [question for name, question in experiments().items() if name in study.experiments]
    # Seed by seed, so that a study that is cut short has all of its questions answered with fewer seeds.
    todo = [cell for seed in range(study.seeds) for question in asked for cell in cells(question, seed, chosen)]
    for done, _ in enumerate(_computed(todo, folder, study.processes), 1):
        progress(done, len(todo))
    tables = [_table(question, study.seeds, chosen, folder) for question in asked]
    for name, text in ((PAGE, render_page(tables, chosen)), (TABLE, csv_table(tables))):
        with write_atomically(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return tables


def _computed(todo: list[Cell], folder: Path, processes: int) -> Iterator[Path]:
    work = partial(compute, folder=folder)
    if processes == 1:
        yield from map(work, todo)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, todo)


def _table(question: Experiment, seeds: int, chosen: Mapping[str, Any], folder: Path) -> Table:
    records: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for cell in cells(question, seed, chosen):
            records.setdefault((cell.series.label, cell.value), []).append(read_cell(cell, folder))
    return make_table(question, records)
