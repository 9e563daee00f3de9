"""CSV and TSV files with named columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recascade.data.adapters.parse_failures import explain_parse_failure, refuse_cut_line
from recascade.data.adapters.tables import Tables, identifiers_to_text, rename_columns, times_to_seconds
from recascade.data.schema import explain_read_failure
from recascade.errors import ConfigurationError, DataError


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open a delimited file of events, and perhaps files of item and user features.

    Identifiers and times are read as text, so that ``007`` stays ``007``; the types of further columns are taken from
    the first lines.

    Args:
        source: the file of events.
        options: see ``registry.ADAPTERS``.
        scratch: not used.

    Raises:
        DataError: a file is absent or cannot be parsed, or a column is missing.
        ConfigurationError: an impossible value of an option.
    """
    order = options.get("order", "")
    if order not in ("", "file"):
        raise ConfigurationError(f"order={order} is not possible; the only value is order=file.")
    keys = [options.get(option, default) for option, default in _KEYS.items()]
    log = rename_columns(_open(source, options, keys), options, source)
    if order == "file":
        log = log.drop("timestamp", strict=False) if "timestamp" not in options else log
        log = log.with_columns(position=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id"))
    frames = {"interactions": times_to_seconds(identifiers_to_text(log, source), options, source)}
    for table, option in (("items", "item"), ("users", "user")):
        if table in options:
            path = Path(options[table]).expanduser()
            key = options.get(option, _KEYS[option])
            frame = pl.scan_parquet(path) if path.suffix == ".parquet" else _open(path, {}, [key])
            with explain_read_failure(path):
                columns = frame.collect_schema().names()
            if key not in columns and _KEYS[option] not in columns:
                raise DataError(f"{path} has no column {key!r}; it has {', '.join(columns)}.")
            frame = frame.rename({key: _KEYS[option]}) if key in columns else frame
            frames[table] = identifiers_to_text(frame, path)
    return Tables(frames, source=source.name)


_KEYS = {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}


def _open(path: Path, options: Mapping[str, str], as_text: list[str]) -> pl.LazyFrame:
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    separator = options.get("separator", "tab" if ".tsv" in path.suffixes else ",")
    separator = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
    if len(separator.encode()) != 1:
        raise ConfigurationError(
            f"separator={separator} is not one character; files with longer separators must be rewritten, "
            "except those of MovieLens, which 'recascade data import movielens' reads."
        )
    names = [name.strip() for name in options["columns"].split(",")] if "columns" in options else None
    text = as_text + [name for name in options.get("text", "").split(",") if name]
    settings: dict[str, Any] = {
        "separator": separator,
        "has_header": names is None,
        "null_values": options.get("missing"),
        "infer_schema_length": 10_000,
    }
    with explain_parse_failure(path):
        first = pl.scan_csv(path, **settings, infer_schema=False).collect_schema().names()
        if names is not None and len(names) != len(first):
            raise DataError(f"{path} has {len(first)} columns, but columns= names {len(names)}: {', '.join(names)}.")
        names = names or first
        refuse_cut_line(path, separator, len(names))
        if len(set(names)) != len(names):
            raise DataError(f"{path} has two columns of one name ({', '.join(names)}); rename one.")
        overrides = {old: pl.String for old, new in zip(first, names, strict=True) if new in text}
        return pl.scan_csv(path, **settings, schema_overrides=overrides).rename(dict(zip(first, names, strict=True)))
