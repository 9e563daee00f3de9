"""Pieces of a log, each worked on by one task of Ray Data; what they write lies in a folder that all machines share."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from recascade.errors import DataError, RecascadeError

Row = dict[str, Any]
"""What goes to a task or comes from it: numbers and texts by name; ``number`` is the place of the piece in the log."""


def map_pieces(ray: ModuleType, work: Callable[[Row], Row], pieces: Sequence[Row]) -> list[Row]:
    """Apply a function to every piece on the machines of the cluster, one core each.

    A task that is lost is computed again, so that the function must write its files whole or not at all.

    Args:
        ray: connected.
        work: runs elsewhere; a module's function, or ``partial`` of one.
        pieces: each with its ``number``, 0, 1, ….

    Returns:
        What came of them, in the order of their numbers.

    Raises:
        DataError: what the function said of the first piece that it refused.
    """
    data = _ray_data(ray)
    table = data.from_items(list(pieces), override_num_blocks=len(pieces))
    done: list[Row] = sorted(table.map(partial(_guarded, work), num_cpus=1).take_all(), key=lambda row: row["number"])
    for row in done:
        if row["problem"]:
            raise DataError(row["problem"])
    return done


@contextmanager
def shared_scratch(destination: Path) -> Iterator[Path]:
    """A folder beside a destination, for pieces; it is removed with all its content."""
    folder = destination.resolve().with_name(f".{destination.name}.{secrets.token_hex(4)}.pieces")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_shared(path: Path, destination: Path) -> None:
    """Refuse to go on when a file that a task has written is not to be seen from here.

    Raises:
        DataError: naming the destination.
    """
    if not path.exists():
        raise DataError(
            f"{path.name} was written by another machine of the cluster and is not visible here: put {destination} "
            "into a folder that all machines share at the same path."
        )


def _guarded(work: Callable[[Row], Row], piece: Row) -> Row:
    try:
        return {**work(piece), "number": piece["number"], "problem": ""}
    except RecascadeError as error:
        return {"number": piece["number"], "problem": str(error)}


def _ray_data(ray: ModuleType) -> Any:
    import ray.data as data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    data.DataContext.get_current().enable_progress_bars = False
    return data
