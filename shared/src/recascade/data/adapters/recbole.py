"""RecBole's atomic files: tab-separated text whose header gives each column its type (``rating:float``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables, identifiers_to_text, rename_columns, times_to_seconds
from recascade.data.adapters.text_tables import numbers_from_text, text_table
from recascade.errors import ConfigurationError, DataError, did_you_mean

# The types and separators of recbole.io/docs/user_guide/data/atomic_files.html.
_TYPES = ("token", "token_seq", "float", "float_seq")
_TITLES = ("title", "movie_title", "name")
_CATEGORIES = ("categories", "category", "genres", "genre", "class")


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open ``NAME.inter`` and, where they are, ``NAME.item`` and ``NAME.user`` beside it.

    ``token`` becomes text, ``float`` float32, ``token_seq`` a list of words, ``float_seq`` a list of float32. A
    ``token_seq`` of the items that is a title (``title``, ``movie_title``, ``name``, or as named) stays one text.

    Args:
        source: the ``.inter`` file, or the folder that holds it.
        options: ``user``, ``item``, ``timestamp``, ``time_unit``, ``title``, ``categories``.
        scratch: where the files are copied to, as Parquet.

    Raises:
        DataError: a file is absent, cut off, or has a header without types, or a value of another type.
        ConfigurationError: an option names a column that is not there.
    """
    log = _log(source)
    events = rename_columns(_atomic(log, scratch, options.get("timestamp", "timestamp")), options, log)
    frames = {"interactions": times_to_seconds(identifiers_to_text(events, log), options, log)}
    items, users = log.with_suffix(".item"), log.with_suffix(".user")
    if items.is_file():
        frames["items"] = _described(_keyed(_atomic(items, scratch), options, "item", items), options, items)
    if users.is_file():
        frames["users"] = _keyed(_atomic(users, scratch), options, "user", users)
    return Tables(frames, source=log.name)


def _log(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"There is no file or folder {source}.")
    logs = sorted(source.glob("*.inter"))
    if len(logs) != 1:
        found = ", ".join(log.name for log in logs) or "none"
        raise DataError(f"{source} must hold one .inter file, and holds {found}; name the file.")
    return logs[0]


def _atomic(path: Path, scratch: Path, time: str | None = None) -> pl.LazyFrame:
    """One file, its columns without their types; the column ``time`` stays text, for the conversion of times."""
    frame = text_table(path, scratch, separator="\t", quote=None)
    types = {}
    for header in frame.collect_schema().names():
        name, colon, kind = header.rpartition(":")
        if not colon or kind not in _TYPES:
            raise DataError(
                f"Column {header!r} of {path} has no type; the header of an atomic file reads NAME:TYPE, "
                f"with one of the types {', '.join(_TYPES)}."
            )
        types[name] = (header, kind)
    if len(types) < len(frame.collect_schema()):
        raise DataError(f"{path} has two columns of one name; rename one.")
    frame = frame.rename({header: name for name, (header, _) in types.items()})
    frame = numbers_from_text(
        frame, {name: pl.Float32 for name, (_, kind) in types.items() if kind == "float" and name != time}, path
    )
    words = pl.col([name for name, (_, kind) in types.items() if kind.endswith("_seq")]).str.split(" ")
    numbers = [name for name, (_, kind) in types.items() if kind == "float_seq"]
    if any(kind.endswith("_seq") for _, kind in types.values()):
        frame = frame.with_columns(words)
    return frame.with_columns(pl.col(numbers).cast(pl.List(pl.Float32))) if numbers else frame


def _keyed(frame: pl.LazyFrame, options: Mapping[str, str], option: str, path: Path) -> pl.LazyFrame:
    canonical = f"{option}_id"
    key = options.get(option, canonical)
    columns = frame.collect_schema().names()
    if key not in columns:
        raise DataError(f"{path} has no column {key!r}; it has {', '.join(columns)}.")
    return frame.rename({key: canonical})


def _described(items: pl.LazyFrame, options: Mapping[str, str], path: Path) -> pl.LazyFrame:
    columns = items.collect_schema()
    chosen = {}
    for option, usual in (("title", _TITLES), ("categories", _CATEGORIES)):
        if option in options and options[option] not in columns:
            raise ConfigurationError(
                f"{path} has no column {options[option]!r} for {option}=.{did_you_mean(options[option], columns)}"
            )
        name = options.get(option) or next((name for name in usual if name in columns), None)
        if name is not None:
            chosen[option] = name
    expressions = []
    if "title" in chosen:
        title = pl.col(chosen["title"])
        is_list = isinstance(columns[chosen["title"]], pl.List)
        expressions.append((title.list.join(" ") if is_list else title).alias("title"))
    if "categories" in chosen:
        categories = pl.col(chosen["categories"])
        is_list = isinstance(columns[chosen["categories"]], pl.List)
        expressions.append((categories if is_list else pl.concat_list(categories)).alias("categories"))
    renamed = [name for option, name in chosen.items() if name != option]
    described = items.with_columns(expressions).drop(renamed)
    return described.with_columns(text=_words(chosen)) if chosen else described


def _words(chosen: Mapping[str, str]) -> pl.Expr:
    parts = [pl.col("title")] if "title" in chosen else []
    if "categories" in chosen:
        parts.append(pl.col("categories").list.join(", "))
    return pl.concat_str(parts, separator=". ", ignore_nulls=True)
