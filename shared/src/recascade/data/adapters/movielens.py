"""MovieLens in its published layouts: ``u.data`` (100K), ``ratings.dat`` (1M, 10M), ``ratings.csv`` (20M and later)."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables
from recascade.data.adapters.text_tables import numbers_from_text, text_table
from recascade.errors import DataError

TERMS = "GroupLens: research use with citation; no redistribution without permission; no commercial use."
_LOGS = ("u.data", "ratings.dat", "ratings.csv")
_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
_WANTED = (*_LOGS, "u.item", "u.user", "u.genre", "movies.dat", "users.dat", "movies.csv")
# Codes of ml-1m's users.dat, from its README.
_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open a MovieLens zip or folder.

    Args:
        source: the zip as downloaded, or the folder it unpacks to.
        options: none.
        scratch: where the members of a zip are unpacked and files copied to, as Parquet.

    Raises:
        DataError: the zip or a file is cut off, there is no ratings file, or a rating or its time is no number.
    """
    files = _unpack(source, scratch) if source.is_file() else _listed(source)
    if "u.data" in files:
        frames = _hundred_thousand(files, scratch)
    elif "ratings.dat" in files:
        frames = _double_colons(files, scratch)
    elif "ratings.csv" in files:
        frames = _comma_separated(files, scratch)
    else:
        raise DataError(f"{source} holds no MovieLens ratings (none of {', '.join(_LOGS)}).")
    return Tables(frames, source=source.name, terms=TERMS)


def _listed(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"There is no file or folder {folder}.")
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    files = {path.name: path for place in (*inner, folder) for path in place.iterdir() if path.name in _WANTED}
    return files


def _unpack(archive: Path, scratch: Path) -> dict[str, Path]:
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                name = Path(member.filename).name
                if name in _WANTED:
                    with members.open(member) as packed, (scratch / name).open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is not a complete zip file ({error}); download it again.") from error
    return _listed(scratch)


def _hundred_thousand(files: Mapping[str, Path], scratch: Path) -> dict[str, pl.LazyFrame]:
    ratings = text_table(files["u.data"], scratch, names=_COLUMNS, separator="\t", quote=None)
    frames = {"interactions": _ratings(ratings, files["u.data"])}
    if "u.item" in files and "u.genre" in files:
        genres = [line.partition("|")[0] for line in _latin_lines(files["u.genre"]) if line.strip()]
        films = _fields(files["u.item"], "|", ["item_id", "title", "release_date", "video", "address", *genres])
        marked = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in genres if genre != "unknown"]
        films = films.with_columns(categories=pl.concat_list(marked).list.drop_nulls())
        frames["items"] = _films(films)
    if "u.user" in files:
        users = _fields(files["u.user"], "|", ["user_id", "age", "gender", "occupation", "zip_code"])
        frames["users"] = users.with_columns(pl.col("age").cast(pl.Int16))
    return frames


def _double_colons(files: Mapping[str, Path], scratch: Path) -> dict[str, pl.LazyFrame]:
    # Read with one colon as separator, each double colon leaves an empty column between two values.
    columns = ["user_id", "1", "item_id", "3", "rating", "5", "timestamp"]
    ratings = text_table(files["ratings.dat"], scratch, names=columns, separator=":", quote=None)
    frames = {"interactions": _ratings(ratings, files["ratings.dat"])}
    if "movies.dat" in files:
        films = _fields(files["movies.dat"], "::", ["item_id", "title", "genres"])
        frames["items"] = _films(films.with_columns(categories=_genres()))
    if "users.dat" in files:
        users = _fields(files["users.dat"], "::", ["user_id", "gender", "age", "occupation", "zip_code"])
        named = pl.col("occupation").replace_strict(
            {str(code): name for code, name in enumerate(_OCCUPATIONS)}, default=None, return_dtype=pl.String
        )
        frames["users"] = users.with_columns(pl.col("age").cast(pl.Int16), occupation=named)
    return frames


def _comma_separated(files: Mapping[str, Path], scratch: Path) -> dict[str, pl.LazyFrame]:
    required = ("userId", "movieId", "rating", "timestamp")
    ratings = text_table(files["ratings.csv"], scratch, required=required)
    ratings = ratings.rename({"userId": "user_id", "movieId": "item_id"})
    frames = {"interactions": _ratings(ratings, files["ratings.csv"])}
    if "movies.csv" in files:
        films = text_table(files["movies.csv"], scratch, required=("movieId", "title", "genres"))
        films = films.rename({"movieId": "item_id"})
        frames["items"] = _films(films.with_columns(categories=_genres()))
    return frames


def _ratings(ratings: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    ratings = numbers_from_text(ratings, {"timestamp": pl.Int64, "rating": pl.Float32}, path)
    numbered = ratings.select("timestamp").with_row_index("row").filter(pl.col("timestamp").is_null())
    untimed = numbered.head(1).collect(engine="streaming")
    if len(untimed):
        raise DataError(
            f"Row {untimed['row'].item() + 1} of {path} (counted from 1, after the header line if there is one) has no "
            "timestamp; the file is cut off or damaged: download it again."
        )
    return ratings.select("user_id", "item_id", "timestamp", "rating")


def _genres() -> pl.Expr:
    genres = pl.col("genres")
    return pl.when(genres != "(no genres listed)").then(genres.str.split("|"))


def _films(films: pl.LazyFrame) -> pl.LazyFrame:
    """Title as published, year from its end, and a text of title and genres."""
    genres = pl.col("categories").list.join(", ")
    return films.select(
        "item_id",
        "title",
        text=pl.concat_str([pl.col("title"), pl.when(genres != "").then(genres)], separator=". ", ignore_nulls=True),
        categories="categories",
        year=pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int16),
    )


def _fields(path: Path, separator: str, names: list[str]) -> pl.LazyFrame:
    """A small file without header or quoting, in UTF-8 or, as the older sets are, ISO 8859-1."""
    rows = [line.split(separator) for line in _latin_lines(path) if line]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != len(names)), None)
    if wrong is not None:
        raise DataError(
            f"Line {wrong} of {path.name} has {len(rows[wrong - 1])} fields, not {len(names)}; "
            "the file is cut off or not of MovieLens: download it again."
        )
    return pl.LazyFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _latin_lines(path: Path) -> list[str]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("iso-8859-1")
    return text.splitlines()
