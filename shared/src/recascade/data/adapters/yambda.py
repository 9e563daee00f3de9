"""Yambda and logs of its layout: Parquet with ``uid``, ``item_id``, ``timestamp`` and what is known of a listen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables, identifiers_to_text
from recascade.data.adapters.text_tables import refuse_missing
from recascade.data.schema import explain_read_failure
from recascade.errors import ConfigurationError, DataError, did_you_mean

TERMS = "Yandex: Apache-2.0."
# The files of one size of the set, and what their events are called in the file of all events.
_EVENTS = {"listens": "listen", "likes": "like", "dislikes": "dislike", "unlikes": "unlike", "undislikes": "undislike"}
_ALL = "multi_event"
# huggingface.co/datasets/yandex/yambda: times are seconds from an undisclosed start, in steps of five.
_REQUIRED = ("uid", "item_id", "timestamp")


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open a file of events, or several kinds of events from a folder, flat or with one row per user.

    Columns: ``behaviour`` (listen, like …), then as published ``is_organic`` (boolean), ``played_ratio_pct`` (percent;
    above 100 where parts were heard again) and ``track_length_seconds``; the last two are null but for listens.

    Args:
        source: one Parquet file, or the folder of one size of the set.
        options: ``events`` (for a folder), ``played``, ``artists``, ``albums``.
        scratch: not used.

    Raises:
        DataError: a file is absent or damaged, or lacks a column.
        ConfigurationError: an unknown kind of event, or ``played`` is no number.
    """
    files = {source.stem: source} if source.is_file() else _kinds(source, options.get("events", "listens"))
    least = _played(options.get("played", "0"))
    logs = [_events(path, kind, least) for kind, path in files.items()]
    frames = {"interactions": pl.concat(logs, how="diagonal")}
    items = _items(options)
    if items is not None:
        frames["items"] = items
    return Tables(frames, source=source.name, terms=TERMS)


def _kinds(folder: Path, wanted: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"There is no file or folder {folder}.")
    files = {}
    for kind in (part.strip() for part in wanted.split(",")):
        if kind not in (*_EVENTS, _ALL):
            raise ConfigurationError(f"events={kind} is not possible.{did_you_mean(kind, [*_EVENTS, _ALL])}")
        files[kind] = folder / f"{kind}.parquet"
    return files


def _played(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"played={text} is no number; it is a percentage, such as 50.") from None


def _events(path: Path, kind: str, least: float) -> pl.LazyFrame:
    frame = _scan(path, _REQUIRED)
    columns = frame.collect_schema()
    lists = [name for name, dtype in columns.items() if isinstance(dtype, pl.List)]
    if lists:
        frame = frame.explode(lists)
    if "event_type" in columns:
        frame = frame.rename({"event_type": "behaviour"}).with_columns(pl.col("behaviour").cast(pl.String))
    else:
        frame = frame.with_columns(behaviour=pl.lit(_EVENTS.get(kind)))
    if least and "played_ratio_pct" in columns:
        # Only listens have a ratio; a like is kept however much was heard.
        frame = frame.filter(pl.col("played_ratio_pct").is_null() | (pl.col("played_ratio_pct") >= least))
    frame = identifiers_to_text(frame.rename({"uid": "user_id"}), path)
    return frame.with_columns(pl.col("timestamp").cast(pl.Int64))


def _items(options: Mapping[str, str]) -> pl.LazyFrame | None:
    tables = []
    for option, key in (("artists", "artist_id"), ("albums", "album_id")):
        if option in options:
            path = Path(options[option]).expanduser()
            pairs = _scan(path, ("item_id", key)).select(pl.col("item_id", key).cast(pl.String))
            tables.append(pairs.group_by("item_id").agg(pl.col(key).unique().sort().alias(f"{key}s")))
    if len(tables) == 2:
        return tables[0].join(tables[1], on="item_id", how="full", coalesce=True).sort("item_id")
    return tables[0].sort("item_id") if tables else None


def _scan(path: Path, required: tuple[str, ...]) -> pl.LazyFrame:
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    with explain_read_failure(path):
        frame = pl.scan_parquet(path)
        refuse_missing(required, frame.collect_schema().names(), path)
    return frame
