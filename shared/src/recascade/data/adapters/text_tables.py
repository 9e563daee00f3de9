"""Delimited text of a published layout: opened as text, copied once to Parquet, turned into numbers where needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from recascade.data.adapters.parse_failures import explain_parse_failure, refuse_cut_line
from recascade.errors import DataError, did_you_mean


def text_table(
    path: Path,
    scratch: Path,
    *,
    required: Sequence[str] = (),
    names: Sequence[str] | None = None,
    separator: str = ",",
    quote: str | None = '"',
) -> pl.LazyFrame:
    """Copy a delimited file, perhaps compressed, to Parquet with all columns as text; it is streamed, never held whole.

    Args:
        path: the file.
        scratch: the folder of the copy.
        required: columns that must be there.
        names: of the columns of a file without a header line; None: the first line names them.
        separator: one character.
        quote: the character around values that hold a separator; None where the format has none.

    Raises:
        DataError: the file is absent, empty, cut off, not text, or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    copy = scratch / f"{path.name}.parquet"
    with explain_parse_failure(path):
        frame = pl.scan_csv(
            path, separator=separator, quote_char=quote, has_header=names is None, infer_schema=False, glob=False
        )
        found = frame.collect_schema().names()
        if names is not None:
            if len(found) != len(names):
                raise DataError(f"{path} has {len(found)} columns instead of {len(names)}: {', '.join(names)}.")
            frame = frame.rename(dict(zip(found, names, strict=True)))
        columns = list(names or found)
        repeated = next((name for name in columns if f"{name}_duplicated_0" in columns), None)
        if repeated is not None:
            raise DataError(f"{path} has two columns named {repeated!r}; rename or remove one.")
        refuse_missing(required, columns, path)
        refuse_cut_line(path, separator, len(columns))
        frame.sink_parquet(copy)
    return pl.scan_parquet(copy)


def refuse_missing(required: Sequence[str], columns: Sequence[str], path: Path) -> None:
    """Refuse a table without one of its columns.

    Raises:
        DataError: naming the first that is missing, those that are there, and the nearest of them.
    """
    for name in required:
        if name not in columns:
            near = did_you_mean(name, columns)
            raise DataError(
                f"{path} has no column {name!r}; it has {', '.join(columns)}.{near if near.startswith(' Did') else ''}"
            )


def numbers_from_text(frame: pl.LazyFrame, types: Mapping[str, type[pl.DataType]], path: Path) -> pl.LazyFrame:
    """Cast text columns to numbers; columns that are not there are left out, nulls stay null.

    Raises:
        DataError: a value is no such number, naming column, count, and the first value with its row: a repeated header
            line in the middle of a file is found so.
    """
    present = {name: dtype for name, dtype in types.items() if name in frame.collect_schema()}
    casts = {name: pl.col(name).str.strip_chars().cast(dtype, strict=False) for name, dtype in present.items()}
    bad = {name: pl.col(name).is_not_null() & cast.is_null() for name, cast in casts.items()}
    counts = frame.select(**{name: wrong.sum() for name, wrong in bad.items()}).collect(engine="streaming")
    for name in present:
        count = counts[name].item()
        if count:
            numbered = frame.select(name).with_row_index("row").filter(bad[name]).head(1)
            row, value = numbered.collect(engine="streaming").row(0)
            rows = "1 row" if count == 1 else f"{count:,} rows"
            raise DataError(
                f"Column {name!r} of {path} holds no number in {rows}, first {value!r} in row {row + 1} "
                "(counted from 1, after the header line if there is one); correct or remove it."
            )
    return frame.with_columns(**casts)
