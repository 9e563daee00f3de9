"""Amazon reviews of McAuley's group, in the editions of 2014, 2018 and 2023: reviews, ratings, metadata of products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recascade.data.adapters.json_lines import JsonLines, json_lines_to_parquet, open_bytes
from recascade.data.adapters.tables import Tables, times_to_seconds
from recascade.data.adapters.text_tables import numbers_from_text, text_table
from recascade.errors import ConfigurationError, DataError

TERMS = "J. McAuley, UCSD: research with citation, no formal licence known; the texts are Amazon's and its users'."
# Product identifiers (ASIN, ISBN-10) have ten characters; most reviewer identifiers have more.
_ITEM_LENGTH = 10
_SAMPLE = 1_000
# "$5.39", "5.39", "from 5.39", "$5.39 - $7.00"; some fields of 2018 hold the style sheet of the page instead.
_PRICE = r"^\s*(?:from\s+)?\$?\s*(\d[\d,]*(?:\.\d+)?)"
_ENTITIES = {"&amp;": "&", "&quot;": '"', "&#39;": "'", "&#34;": '"', "&lt;": "<", "&gt;": ">", "&nbsp;": " "}


@dataclass(frozen=True)
class _Edition:
    """How one edition calls its fields.

    ``columns`` are those of its CSV of ratings where it has no header line; times are in ``time_unit``.
    """

    year: int
    user: str
    item: str
    rating: str
    time: str
    time_unit: str
    verified: str | None
    columns: tuple[str, ...] | None
    metadata: JsonLines
    metadata_key: str


_TEXTS = pl.List(pl.String())

# Fields: jmcauley.ucsd.edu/data/amazon (2014), nijianmo.github.io/amazon (2018), amazon-reviews-2023.github.io.
_EDITIONS = {
    2014: _Edition(
        2014, "reviewerID", "asin", "overall", "unixReviewTime", "s", None,
        columns=("reviewerID", "asin", "overall", "unixReviewTime"),
        metadata=JsonLines(
            {
                "asin": pl.String(), "title": pl.String(), "brand": pl.String(), "price": pl.String(),
                "categories": pl.List(_TEXTS), "description": pl.String(),
            },
            ("asin",), python_literals=True,
        ),
        metadata_key="asin",
    ),
    2018: _Edition(
        2018, "reviewerID", "asin", "overall", "unixReviewTime", "s", "verified",
        columns=("asin", "reviewerID", "overall", "unixReviewTime"),
        metadata=JsonLines(
            {
                "asin": pl.String(), "title": pl.String(), "brand": pl.String(), "price": pl.String(),
                "category": _TEXTS, "description": _TEXTS,
            },
            ("asin",),
        ),
        metadata_key="asin",
    ),
    2023: _Edition(
        2023, "user_id", "parent_asin", "rating", "timestamp", "ms", "verified_purchase",
        columns=None,
        metadata=JsonLines(
            {
                "parent_asin": pl.String(), "title": pl.String(), "store": pl.String(), "price": pl.String(),
                "main_category": pl.String(), "categories": _TEXTS, "description": _TEXTS,
            },
            ("parent_asin",),
        ),
        metadata_key="parent_asin",
    ),
}  # fmt: skip


def read_2014(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open reviews of 2014: JSON lines (5-core or all) or the headerless CSV user, item, rating, seconds."""
    return _read(_EDITIONS[2014], source, options, scratch)


def read_2018(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open reviews of 2018: JSON lines, or the headerless CSV item, user, rating, seconds."""
    return _read(_EDITIONS[2018], source, options, scratch)


def read_2023(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open reviews of 2023: JSON lines, or CSV with the header user_id, parent_asin, rating, timestamp (milliseconds).

    An item is a ``parent_asin``: what the authors advise, since variants of a product (colours, sizes) share it.
    """
    return _read(_EDITIONS[2023], source, options, scratch)


def _read(edition: _Edition, source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Events in the order of the file, with ``rating`` (float32) and ``verified`` (boolean, JSON of 2018 and 2023).

    Args:
        edition: its names.
        source: the file of reviews or ratings, compressed or not.
        options: ``items``, the file of metadata; ``broken``.
        scratch: where the wanted fields are copied to, as Parquet.

    Raises:
        DataError: a file is absent, cut off, damaged, or of another edition.
        ConfigurationError: an impossible value of an option.
    """
    broken = options.get("broken", "")
    if broken not in ("", "skip"):
        raise ConfigurationError(f"broken={broken} is not possible; the only value is broken=skip.")
    if not source.is_file():
        raise DataError(f"There is no file {source}.")
    with open_bytes(source) as stream:
        is_json = stream.read(1) == b"{"
    events = _reviews(edition, source, scratch, broken) if is_json else _ratings(edition, source, scratch)
    frames = {"interactions": times_to_seconds(events, {"time_unit": edition.time_unit}, source)}
    if "items" in options:
        frames["items"] = _products(edition, Path(options["items"]).expanduser(), scratch, broken)
    return Tables(frames, source=source.name, terms=TERMS)


def _reviews(edition: _Edition, source: Path, scratch: Path, broken: str) -> pl.LazyFrame:
    fields: dict[str, pl.DataType] = {
        edition.user: pl.String(),
        edition.item: pl.String(),
        edition.rating: pl.Float64(),
        edition.time: pl.Float64(),
    }
    if edition.verified:
        fields[edition.verified] = pl.Boolean()
    required = (edition.user, edition.item, edition.time)
    layout = JsonLines(fields, required, edition.metadata.python_literals, broken == "skip")
    frame = json_lines_to_parquet(source, layout, scratch / "reviews.parquet")
    verified = {"verified": pl.col(edition.verified)} if edition.verified else {}
    return _events(edition, frame, **verified)


def _ratings(edition: _Edition, source: Path, scratch: Path) -> pl.LazyFrame:
    required = (edition.user, edition.item, edition.rating, edition.time)
    frame = text_table(source, scratch, required=required, names=edition.columns)
    if edition.columns is not None:
        _refuse_swapped(edition, frame, source)
    return _events(edition, numbers_from_text(frame, {edition.rating: pl.Float32}, source))


def _events(edition: _Edition, frame: pl.LazyFrame, **further: pl.Expr) -> pl.LazyFrame:
    return frame.select(
        user_id=pl.col(edition.user),
        item_id=pl.col(edition.item),
        timestamp=pl.col(edition.time),
        rating=pl.col(edition.rating).cast(pl.Float32),
        **further,
    )


def _refuse_swapped(edition: _Edition, frame: pl.LazyFrame, source: Path) -> None:
    """The editions of 2014 and 2018 write the first two columns the other way round, and neither names them."""
    sample = frame.select(pl.col(edition.user, edition.item).str.len_chars() == _ITEM_LENGTH).head(_SAMPLE)
    items, users = sample.select(pl.col(edition.item).mean(), pl.col(edition.user).mean()).collect().row(0)
    if items is not None and users is not None and items < users:
        other = 2018 if edition.year == 2014 else 2014
        raise DataError(
            f"{source} has products where the edition of {edition.year} has reviewers; "
            f"import it with the adapter amazon-{other}."
        )


def _products(edition: _Edition, path: Path, scratch: Path, broken: str) -> pl.LazyFrame:
    """One row per product: title, text (title, brand and categories), categories, brand, price (USD), description."""
    layout = JsonLines(
        edition.metadata.fields, edition.metadata.required, edition.metadata.python_literals, broken == "skip"
    )
    frame = json_lines_to_parquet(path, layout, scratch / "metadata.parquet")
    if edition.year == 2014:
        # Several paths through the shop for each product, made one list (``list.eval`` is an expression of Polars).
        categories = pl.col("categories").list.eval(pl.element().explode())
        description = pl.col("description")
    else:
        categories = pl.col("category" if edition.year == 2018 else "categories")
        description = pl.col("description").list.join(" ")
    brand = pl.col("store" if edition.year == 2023 else "brand")
    domain = {"domain": pl.col("main_category")} if edition.year == 2023 else {}
    described = frame.select(
        item_id=pl.col(edition.metadata_key),
        title=_plain(pl.col("title")),
        # Each name cleaned within its list; again an expression of Polars, nothing is run from text.
        categories=categories.list.unique(maintain_order=True).list.eval(_plain(pl.element())),
        brand=_plain(brand),
        price=pl.col("price").str.extract(_PRICE).str.replace_all(",", "").cast(pl.Float32, strict=False),
        description=_plain(description),
        **domain,
    ).unique("item_id", keep="first", maintain_order=True)
    words = pl.concat_str(
        [pl.col("title"), pl.col("brand"), pl.col("categories").list.join(", ")], separator=". ", ignore_nulls=True
    )
    return described.with_columns(
        categories=pl.when(pl.col("categories").list.len() > 0).then("categories"),
        text=pl.when(words != "").then(words),
    ).sort("item_id")


def _plain(text: pl.Expr) -> pl.Expr:
    """HTML entities resolved, white space single; what is then empty is null."""
    entities = text.str.replace_many(list(_ENTITIES), list(_ENTITIES.values()))
    single = entities.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(single != "").then(single)
