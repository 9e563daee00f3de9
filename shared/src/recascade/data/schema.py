"""The canonical tables: their columns and types, and what is checked before anything is computed from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recascade.errors import DataError, did_you_mean
from recascade.files import is_disk_full

# The first second that cannot be a time of an event (the year 2200): larger values are milliseconds or worse.
LATEST_TIMESTAMP = 7_258_118_400

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id"),
    "items": ("item_id",),
    "users": ("user_id",),
}


@dataclass(frozen=True)
class Finding:
    """Something in a table that is wrong (``error``) or worth knowing (``warning``), in one sentence."""

    severity: str
    table: str
    column: str
    sentence: str


@contextmanager
def explain_read_failure(path: Path) -> Iterator[None]:
    """Turn whatever a Parquet reader raises about ``path`` into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except PermissionError as error:
        raise DataError(f"{path} cannot be read (permission denied).") from error
    except (pl.exceptions.ComputeError, ValueError, OSError) as error:
        # pyarrow reports a damaged footer as a ValueError and a damaged page as an OSError without a number.
        about_file = re.search("parquet|specification", str(error), re.IGNORECASE)
        damaged = error.errno is None if isinstance(error, OSError) else about_file
        if is_disk_full(error) or not damaged:
            raise
        raise DataError(
            f"{path} is not a complete Parquet file ({_first_line(error)}); it is cut off or damaged: "
            "copy, download or import it again."
        ) from error


def scan(path: Path, table: str) -> pl.LazyFrame:
    """Open one canonical table lazily, its columns and types checked, identifiers as strings and times as int64.

    Integer identifiers become strings, narrower integers are widened; anything else that differs is an error.

    Raises:
        DataError: the file is absent or damaged, a required column is missing, or a column has a type that cannot be
            used.
    """
    with explain_read_failure(path):
        frame = pl.scan_parquet(path)
        columns = frame.collect_schema()
    for name in REQUIRED[table]:
        if name not in columns:
            raise DataError(
                f"{path} has no column {name!r}, which {table} need; it has {', '.join(columns) or 'no columns'}."
                f"{_near(name, columns)} Rename the column, or import the file with 'recascade data import'."
            )
    casts = []
    for name, dtype in columns.items():
        if name in ("user_id", "item_id"):
            casts.extend(_identifier(path, name, dtype))
        elif name == "timestamp" and table == "interactions":
            casts.extend(_integer(path, name, dtype, pl.Int64(), "whole seconds since 1970-01-01 UTC"))
        elif name == "position" and table == "interactions":
            casts.extend(_integer(path, name, dtype, pl.Int32(), "the event's place among its user's events"))
    if table == "interactions" and "timestamp" not in columns and "position" not in columns:
        raise DataError(
            f"{path} has neither 'timestamp' nor 'position', so its events have no order; "
            "import the log with one of them (for CSV: timestamp=COLUMN, or order=file)."
        )
    return frame.with_columns(casts) if casts else frame


def check_interactions(frame: pl.LazyFrame, path: Path) -> None:
    """Refuse values that no later step could use, in one streaming pass.

    Raises:
        DataError: a null identifier, a negative timestamp, or one beyond the year 2200 (milliseconds); it names the
            column, how many rows, and the first of them.
    """
    findings = [finding for finding in interaction_findings(frame) if finding.severity == "error"]
    if findings:
        raise DataError(f"{path}: {findings[0].sentence}")


def check_keys(frame: pl.LazyFrame, table: str, path: Path) -> None:
    """Refuse an items or users table whose identifier is null or not unique.

    Raises:
        DataError: it names the identifier that stands twice.
    """
    key = REQUIRED[table][0]
    counted = frame.group_by(key).len().filter((pl.col("len") > 1) | pl.col(key).is_null())
    repeated = counted.sort(key).head(1).collect(engine="streaming")
    if len(repeated):
        identifier, count = repeated.row(0)
        what = "is null" if identifier is None else f"{identifier!r} stands in {count} rows"
        raise DataError(f"{path}: in {table}, {key} {what}; keep one row per {key}.")


def interaction_findings(frame: pl.LazyFrame) -> list[Finding]:
    """Null identifiers, impossible timestamps (errors) and values that are not numbers (warnings)."""
    columns = frame.collect_schema()
    doubts: list[tuple[str, str, pl.Expr, str]] = [
        (name, "error", pl.col(name).is_null(), f"{name} is null; remove these rows or give them an identifier.")
        for name in ("user_id", "item_id")
    ]
    if "timestamp" in columns:
        time = pl.col("timestamp")
        doubts.append(
            ("timestamp", "error", time < 0, "timestamp is negative; remove these rows or set unknown times to null.")
        )
        doubts.append(
            (
                "timestamp",
                "error",
                time >= LATEST_TIMESTAMP,
                "timestamp is after the year 2200, which suggests milliseconds; divide it, timestamps are seconds.",
            )
        )
    if "position" in columns:
        position = pl.col("position")
        doubts.append(("position", "error", position < 0, "position is negative; positions count from 0."))
    doubts.extend(
        (name, "warning", pl.col(name).is_nan(), f"{name} is not a number (NaN); set unknown values to null.")
        for name, dtype in columns.items()
        if dtype.is_float()
    )
    counts = frame.select([doubt[2].sum().alias(str(number)) for number, doubt in enumerate(doubts)]).collect(
        engine="streaming"
    )
    findings = []
    for (name, severity, condition, sentence), count in zip(doubts, counts.row(0), strict=True):
        if count:
            row = frame.select(condition.arg_true().first()).collect(engine="streaming").item()
            rows = "1 row" if count == 1 else f"{count:,} rows"
            findings.append(
                Finding(
                    severity, "interactions", name, f"in {rows}, first in row {row + 1} (counted from 1), {sentence}"
                )
            )
    return findings


def _identifier(path: Path, name: str, dtype: pl.DataType) -> list[pl.Expr]:
    if dtype == pl.String:
        return []
    if dtype.is_integer() or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return [pl.col(name).cast(pl.String)]
    raise DataError(f"Column {name!r} of {path} has type {dtype}; identifiers must be strings or whole numbers.")


def _integer(path: Path, name: str, dtype: pl.DataType, wanted: pl.DataType, meaning: str) -> list[pl.Expr]:
    if dtype == wanted:
        return []
    if dtype.is_integer() or dtype == pl.Null:
        return [pl.col(name).cast(wanted)]
    raise DataError(
        f"Column {name!r} of {path} has type {dtype}; it must be an integer: {meaning}. "
        "'recascade data import canonical SRC DST' converts dates, text and floating-point numbers."
    )


def _near(name: str, columns: pl.Schema) -> str:
    hint = did_you_mean(name, columns)
    return hint if hint.startswith(" Did") else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].removeprefix("parquet: ")
