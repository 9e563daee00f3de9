"""What every adapter returns, and the conversions that several of them need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recascade.errors import ConfigurationError, DataError, did_you_mean

_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TEXT_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
)


@dataclass(frozen=True)
class Tables:
    """Lazy canonical tables (``interactions``; ``items``, ``users`` where known), whence they come, their terms."""

    frames: Mapping[str, pl.LazyFrame]
    source: str
    terms: str = ""


def rename_columns(frame: pl.LazyFrame, options: Mapping[str, str], path: Path) -> pl.LazyFrame:
    """Rename the columns that the options ``user``, ``item`` and ``timestamp`` name to their canonical names.

    Raises:
        DataError: a column is not there, with the nearest name and the option that would name it.
    """
    columns = frame.collect_schema().names()
    renames = {}
    for option, canonical in (("user", "user_id"), ("item", "item_id"), ("timestamp", "timestamp")):
        wanted = options.get(option, canonical)
        if wanted in columns:
            renames[wanted] = canonical
        elif option in options or option != "timestamp":
            near = did_you_mean(wanted, columns)
            raise DataError(
                f"{path} has no column {wanted!r}; it has {', '.join(columns)}."
                f"{near if near.startswith(' Did') else ''} Name the right one with {option}=COLUMN."
            )
    taken = [name for name in renames.values() if name in columns and name not in renames]
    return frame.drop(taken).rename(renames)


def identifiers_to_text(frame: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """Cast user_id and item_id to strings; whole numbers are written without a decimal point.

    Raises:
        DataError: an identifier column holds floating-point numbers, dates or lists.
    """
    casts = []
    for name, dtype in frame.collect_schema().items():
        if name not in ("user_id", "item_id") or dtype == pl.String:
            continue
        if not (dtype.is_integer() or isinstance(dtype, (pl.Categorical, pl.Enum))):
            raise DataError(f"Column {name!r} of {path} has type {dtype}; identifiers must be text or whole numbers.")
        casts.append(pl.col(name).cast(pl.String))
    return frame.with_columns(casts) if casts else frame


def times_to_seconds(frame: pl.LazyFrame, options: Mapping[str, str], path: Path) -> pl.LazyFrame:
    """Turn the column ``timestamp``, if there is one, into int64 seconds since 1970 (UTC); nulls stay null.

    Numbers are divided by the ``time_unit``; dates and times are taken as UTC unless they name a zone; text is read as
    numbers, by ``time_format``, or as ISO 8601.

    Raises:
        DataError: a value is not a time (NaN included), naming the first and its row.
        ConfigurationError: an unknown ``time_unit``.
    """
    dtype = frame.collect_schema().get("timestamp")
    if dtype is None:
        return frame
    unit = options.get("time_unit", "s")
    if unit not in _UNITS:
        raise ConfigurationError(f"time_unit={unit} is not possible.{did_you_mean(unit, _UNITS)}")
    time = pl.col("timestamp")
    if dtype == pl.Null:
        seconds = time.cast(pl.Int64)
    elif dtype.is_integer():
        seconds = time.cast(pl.Int64) // _UNITS[unit]
    elif dtype.is_float():
        seconds = _floor(time / _UNITS[unit])
    elif dtype == pl.Date:
        seconds = time.cast(pl.Datetime("us")).dt.epoch("s")
    elif isinstance(dtype, pl.Datetime):
        seconds = time.dt.epoch("s")
    elif dtype == pl.String:
        seconds = _text_to_seconds(frame, options.get("time_format"), _UNITS[unit])
    else:
        raise DataError(f"Column 'timestamp' of {path} has type {dtype}, which is no time.")
    bad = time.is_not_null() & seconds.is_null()
    if dtype.is_float() or dtype == pl.String:
        _refuse(frame, bad, path)
    return frame.with_columns(timestamp=seconds)


def _floor(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite()).then(number).floor().cast(pl.Int64, strict=False)


def _text_to_seconds(frame: pl.LazyFrame, time_format: str | None, divisor: int) -> pl.Expr:
    time = pl.col("timestamp")
    sample = frame.select(time.drop_nulls().first()).head(1).collect(engine="streaming").item()
    if time_format is None and _is_number(sample):
        whole = time.cast(pl.Int64, strict=False) // divisor
        return pl.coalesce(whole, _floor(time.cast(pl.Float64, strict=False) / divisor))
    formats = (time_format,) if time_format else _TEXT_FORMATS
    fitting = next((text for text in formats if _fits(sample, text)), formats[0])
    return time.str.to_datetime(fitting, strict=False, time_unit="us").dt.epoch("s")


def _is_number(text: str | None) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def _fits(text: str, time_format: str) -> bool:
    parsed = pl.Series([text]).str.to_datetime(time_format, strict=False, time_unit="us")
    return parsed.null_count() == 0


def _refuse(frame: pl.LazyFrame, bad: pl.Expr, path: Path) -> None:
    count = frame.select(bad.sum()).collect(engine="streaming").item()
    if not count:
        return
    row, value = frame.select("timestamp").with_row_index("row").filter(bad).head(1).collect(engine="streaming").row(0)
    rows = "1 row" if count == 1 else f"{count:,} rows"
    raise DataError(
        f"Column 'timestamp' of {path} holds no time in {rows}, first {value!r} in event {row + 1} (counted from 1). "
        "Correct it, or leave unknown times empty (for CSV: missing=WORD names a word for unknown, "
        "time_format=… their format)."
    )
