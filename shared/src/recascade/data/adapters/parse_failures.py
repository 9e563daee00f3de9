"""Why a text file could not be parsed, in one sentence with the line: looked for only after parsing has failed."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl

from recascade.errors import DataError

_TAIL_BYTES = 1 << 16


@contextmanager
def explain_parse_failure(path: Path) -> Iterator[None]:
    """Turn what the CSV reader raises about ``path`` into one sentence; other errors pass."""
    try:
        yield
    except (pl.exceptions.ComputeError, pl.exceptions.NoDataError, zlib.error, EOFError, OSError) as error:
        sentence = _sentence(path, str(error))
        if sentence is None:
            raise
        raise DataError(sentence) from error


def refuse_cut_line(path: Path, separator: str, columns: int) -> None:
    """Refuse a file whose last line has no end and fewer fields than the others: the mark of a broken download.

    Raises:
        DataError: naming the fields found and wanted.
    """
    if path.suffix == ".gz":
        return
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = handle.read()
    last = tail.rpartition(b"\n")[2].decode("utf-8", errors="replace")
    if not last:
        return
    fields = len(next(csv.reader([last], delimiter=separator)))
    if fields < columns:
        raise DataError(
            f"The last line of {path} has {fields} of {columns} fields and no end: the file is cut off. "
            "Copy or download it again, or remove that line."
        )


def _sentence(path: Path, problem: str) -> str | None:
    if "empty CSV" in problem:
        return f"{path} is empty."
    if "utf-8" in problem.lower() or "utf8" in problem.lower():
        return f"{path} is not UTF-8 text{_first_undecodable(path)}; convert it first (iconv -f ISO-8859-1 -t UTF-8)."
    if "more fields than defined" in problem:
        return (
            f"{path} has a line with more fields than its first line{_first_ragged(path)}; correct it, or quote values "
            "that contain the separator."
        )
    mismatch = re.search(r"could not parse `(.*?)` as dtype `.*?` at column '(.*?)'", problem, re.DOTALL)
    if mismatch:
        value, column = mismatch.groups()
        return (
            f"Column {column!r} of {path} holds {value!r} after values that are numbers; correct it, or keep the "
            f"column as text with text={column}, or name a word for unknown values with missing={value}."
        )
    if path.suffix == ".gz" and re.search("end of file|corrupt|deflate|gzip", problem):
        return f"{path} cannot be unpacked; it is cut off or damaged: copy or download it again."
    return None


def _first_undecodable(path: Path) -> str:
    with _open(path) as handle:
        for number, line in enumerate(handle, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f", first in line {number}"
    return ""


def _first_ragged(path: Path) -> str:
    with _open(path) as handle:
        lines = (line.decode("utf-8", errors="replace") for line in handle)
        first = next(lines, "")
        separator = max(",\t;|", key=first.count)
        width = len(next(csv.reader([first], delimiter=separator)))
        for number, fields in enumerate(csv.reader(lines, delimiter=separator), 2):
            if len(fields) > width:
                return f", first in line {number} ({len(fields)} instead of {width})"
    return ""


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
