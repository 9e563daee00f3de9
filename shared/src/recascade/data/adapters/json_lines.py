"""Files with one JSON object per line, perhaps compressed: read in blocks, so that memory stays bounded."""

from __future__ import annotations

import ast
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow.parquet as parquet

from recascade.errors import DataError

_BLOCK_BYTES = 1 << 24
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class JsonLines:
    """What to read of each line.

    Attributes:
        fields: the fields to keep, with their types; numbers are declared Float64.
        required: those that the first line must have.
        python_literals: also accept a line that is a Python dictionary (single quotes), as some old sets have it.
        skip_broken: leave lines out that cannot be read, instead of refusing the file.
    """

    fields: Mapping[str, pl.DataType]
    required: tuple[str, ...]
    python_literals: bool = False
    skip_broken: bool = False


def json_lines_to_parquet(path: Path, layout: JsonLines, copy: Path) -> pl.LazyFrame:
    """Copy the fields of a file of JSON lines to the Parquet file ``copy`` and open that lazily.

    Raises:
        DataError: the file is absent, empty, cut off or of another layout, or has lines that cannot be read: how many,
            and the first of them.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    reader = _Reader(path, layout)
    writer: parquet.ParquetWriter | None = None
    try:
        for block in _blocks(path):
            table = reader.read(block).to_arrow()
            writer = writer or parquet.ParquetWriter(copy, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DataError(f"{path} is empty.")
    reader.refuse_broken()
    return pl.scan_parquet(copy)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacking it on the way where it is gzip, whatever its name."""
    with path.open("rb") as handle:
        packed = handle.read(2) == _GZIP_MAGIC
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


class _Reader:
    """Turns blocks of whole lines into tables, and remembers the lines that could not be read."""

    def __init__(self, path: Path, layout: JsonLines) -> None:
        self.path = path
        self.layout = layout
        self.lines = 0
        self.broken = 0
        self.first: tuple[int, str] | None = None

    def read(self, block: bytes) -> pl.DataFrame:
        """One row per readable line."""
        schema = dict(self.layout.fields)
        if self.lines == 0:
            self._check_fields(block)
        lines_before, self.lines = self.lines, self.lines + block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            return pl.read_ndjson(io.BytesIO(block), schema=schema)
        except (pl.exceptions.PolarsError, UnicodeDecodeError):
            # One line is enough to fail a block; only then does Python look at every line.
            rows = list(self._rows(block, lines_before))
            return pl.DataFrame(rows, schema=schema, orient="row", strict=False)

    def refuse_broken(self) -> None:
        """Raise for lines that could not be read, unless they are to be skipped."""
        if self.first is None or self.layout.skip_broken:
            return
        number, why = self.first
        count = "1 line" if self.broken == 1 else f"{self.broken:,} lines"
        raise DataError(
            f"{self.path} has {count} of {self.lines:,} that cannot be read, first line {number} ({why}). "
            "Correct or download it again, or leave such lines out with broken=skip."
        )

    def _rows(self, block: bytes, lines_before: int) -> Iterator[tuple[Any, ...]]:
        for number, line in enumerate(block.splitlines(), lines_before + 1):
            if not line.strip():
                continue
            try:
                value = self._parse(line)
                yield tuple(_fitting(value.get(name), dtype, name) for name, dtype in self.layout.fields.items())
            except ValueError as error:
                self.broken += 1
                self.first = self.first or (number, str(error))

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not self.layout.python_literals:
                raise ValueError("no JSON") from error
            value = _literal(line)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        return value

    def _check_fields(self, block: bytes) -> None:
        line = next((line for line in block.splitlines() if line.strip()), b"")
        try:
            found = self._parse(line)
        except ValueError:
            return
        for name in self.layout.required:
            if name not in found:
                raise DataError(
                    f"{self.path} has no field {name!r} in its first line, which has {', '.join(found)}; "
                    "is it of another edition, or metadata instead of reviews?"
                )


def _blocks(path: Path) -> Iterator[bytes]:
    """Pieces of about 16 MiB that end at the end of a line."""
    rest = b""
    try:
        with open_bytes(path) as stream:
            while piece := stream.read(_BLOCK_BYTES):
                head, newline, tail = (rest + piece).rpartition(b"\n")
                rest = tail
                if head.strip():
                    yield head + newline
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked; it is cut off or damaged: copy or download it again.") from error
    if rest.strip():
        yield rest


def _literal(line: bytes) -> Any:
    # The metadata of 2014 are Python's dictionaries; this reads constants and containers of them, and runs nothing.
    try:
        return ast.literal_eval(line.decode("utf-8"))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError("neither JSON nor a Python dictionary") from error


def _fitting(value: Any, dtype: pl.DataType, name: str) -> Any:
    """The value as the column takes it.

    Raises:
        ValueError: a number is wanted and something else is there.
    """
    if value is None:
        return None
    if dtype == pl.Float64 and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"field {name!r} is no number: {str(value)[:40]!r}")
    if dtype == pl.Boolean and not isinstance(value, bool):
        raise ValueError(f"field {name!r} is neither true nor false: {str(value)[:40]!r}")
    if dtype == pl.String and not isinstance(value, str):
        return json.dumps(value)
    return value
