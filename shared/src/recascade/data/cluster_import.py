"""Importing a log of many files on a Ray cluster: each file by a task, then one canonical folder."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from recascade.data import schema
from recascade.data.adapters.registry import ADAPTERS, import_dataset, with_events
from recascade.data.address import is_address, shown
from recascade.data.cluster import ray_cluster
from recascade.data.cluster_pieces import Row, map_pieces, require_shared, shared_scratch
from recascade.data.dataset import MANIFEST, Dataset
from recascade.errors import ConfigurationError, DataError
from recascade.files import require_new_folder, write_folder_atomically, write_json

# Options that name a table of their own; one task reading it is enough.
_TABLE_OPTIONS = ("items", "users")


def import_on_cluster(
    adapter: str,
    source: str | Path,
    destination: Path,
    options: Mapping[str, str] | None = None,
    name: str = "",
    address: str | None = None,
) -> Dataset:
    """Do what ``import_dataset`` does of one file with many, in parallel; rows keep the order of files and lines.

    Every file is parsed, converted and checked where Ray has room; one pass on this machine joins the results, in which
    nothing is held whole.

    Args:
        adapter: name of an adapter that reads single files.
        source: a file, a folder of files, or a pattern such as ``logs/*.csv.gz``; files count in the order of their
            names.
        destination: a folder that does not exist yet or is empty; all machines must see it, and the files, at the same
            path.
        options: the adapter's ``key=value`` words.
        name: of the data set in results; empty: that of the destination folder.
        address: of the cluster; None starts one on this machine.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: an impossible option, or no cluster at the address.
        DataError: a file cannot be read, holds impossible values or has other columns than the first one, or the
            destination is taken or not shared.
    """
    options = dict(options or {})
    if options.get("order") == "file":
        raise ConfigurationError(
            "order=file counts the events of one file and cannot join several; leave --runner ray out, or name a "
            "timestamp."
        )
    if is_address(str(source)):
        raise ConfigurationError(
            f"--runner ray reads files that all machines see at one path, and {shown(str(source))} is an address; copy "
            "its files into a shared folder first, or leave --runner ray out."
        )
    files = _files(Path(source).expanduser())
    require_new_folder(destination)
    with ray_cluster(address) as ray, shared_scratch(destination) as scratch:
        pieces: list[Row] = [
            {"number": number, "source": str(file), "piece": str(scratch / f"{number:06d}")}
            for number, file in enumerate(files)
        ]
        map_pieces(ray, partial(_import_piece, adapter, options), pieces)
        folders = [Path(piece["piece"]) for piece in pieces]
        require_shared(folders[0], destination)
        bought_only = ADAPTERS[adapter].bought_only
        return _join(folders, files, destination, name or destination.resolve().name, str(source), bought_only)


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        found = [path for path in source.iterdir() if path.is_file() and not path.name.startswith(".")]
    else:
        found = [Path(path) for path in glob.glob(str(source), recursive=True)]
    if not found:
        raise DataError(f"{source} names no file; give a file, a folder of files or a pattern such as 'logs/*.csv.gz'.")
    return sorted(path.resolve() for path in found)


def _import_piece(adapter: str, options: Mapping[str, str], piece: Row) -> Row:
    folder = Path(piece["piece"])
    # There already when a task was lost after it had finished.
    if not folder.exists():
        wanted = {key: value for key, value in options.items() if not piece["number"] or key not in _TABLE_OPTIONS}
        import_dataset(adapter, Path(piece["source"]), folder, wanted, part=True)
    return {}


def _join(
    folders: Sequence[Path], files: Sequence[Path], destination: Path, name: str, source: str, bought_only: bool
) -> Dataset:
    parts = [Dataset.open(folder) for folder in folders]
    with write_folder_atomically(destination) as folder:
        for table in ("interactions", "items", "users"):
            paths = [part.table_path(table) for part in parts if table in part.tables]
            if not paths:
                continue
            _require_one_schema(paths, table, dict(zip(folders, files, strict=True)))
            frame = pl.scan_parquet(paths)
            if table != "interactions":
                frame = frame.unique(subset=schema.REQUIRED[table][0], keep="first", maintain_order=True)
            if table == "items" and bought_only:
                frame = with_events(frame, schema.scan(folder / "interactions.parquet", "interactions"))
            frame.sink_parquet(folder / f"{table}.parquet")
        log = schema.scan(folder / "interactions.parquet", "interactions")
        counts = log.select(
            interactions=pl.len(), users=pl.col("user_id").n_unique(), items=pl.col("item_id").n_unique()
        )
        facts = {
            **parts[0].facts,
            "name": name,
            "source": source,
            "files": len(files),
            "counts": counts.collect(engine="streaming").row(0, named=True),
        }
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)


def _require_one_schema(paths: Sequence[Path], table: str, files: Mapping[Path, Path]) -> None:
    first = pl.read_parquet_schema(paths[0])
    for path in paths[1:]:
        other = pl.read_parquet_schema(path)
        for column in dict.fromkeys((*first, *other)):
            if first.get(column) != other.get(column):
                one, two = (
                    str(dtype) if dtype is not None else "absent" for dtype in (first.get(column), other.get(column))
                )
                raise DataError(
                    f"Column {column!r} of {table} is {one} in {files[paths[0].parent]} and {two} in "
                    f"{files[path.parent]}; make the files alike, or keep it as text (for CSV: text={column})."
                )
