"""Ads invented on top of any catalogue: advertisers, conversion types, bids, clones. Whatever comes of them is labelled
synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.hashing import hash_strings, mix
from recascade.errors import ConfigurationError, DataError
from recascade.files import require_new_folder, write_folder_atomically, write_json

TYPE_FACTORS = (0.5, 1.0, 1.5, 2.0)
"""What a conversion of each type is worth to an advertiser, relative to its bid."""
ADVERTISER_COLUMNS: Sequence[str] = ("advertiser_id", "brand", "manufacturer_id", "domain")
ADVERTISERS = 64
BID_SPREAD = 0.6
CLONE_MARK = "-clone"


def with_ads(items: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The catalogue with ``advertiser_id``, ``conversion_type`` and ``bid``, in the order of its rows.

    An item's advertiser is its first brand-like attribute, or one of 64 by a hash of its identifier; its conversion
    type is such a hash modulo 4; its bid is log-normal around its advertiser's level with deviation 0.6 (all our
    choice). Each depends on the identifiers and the seed alone, not on which other items there
    are.

    Args:
        items: rows with ``item_id``.
        seed: everything derives from it.
    """
    identifiers = items["item_id"]
    own = hash_strings(identifiers, seed)
    brand = next((name for name in ADVERTISER_COLUMNS if name in items.columns), None)
    hashed = pl.Series("advertiser_id", own % np.uint64(ADVERTISERS)).cast(pl.String)
    advertisers = hashed if brand is None else items[brand].cast(pl.String).fill_null(hashed)
    level = _normal(hash_strings(advertisers, seed + 1), seed) * 0.5
    bids = np.exp(level + BID_SPREAD * _normal(own, seed + 2))
    return items.with_columns(
        advertisers.alias("advertiser_id"),
        pl.Series("conversion_type", (hash_strings(identifiers, seed + 3) % np.uint64(4)).astype(np.int64)),
        pl.Series("bid", bids),
    )


def simulate_ads(dataset: Dataset, destination: Path, *, clones: float = 0.1, seed: int = 0) -> Dataset:
    """Write the data set with ads: the same events, a catalogue ``with_ads``, and clones of some items.

    A clone has all of its original's content but its own identifier, conversion type and bid, and takes about half of
    its events: what a tokenizer that reads content alone cannot tell apart.

    Args:
        dataset: with a catalogue.
        destination: a new folder.
        clones: share of the items that get one.
        seed: everything derives from it.

    Raises:
        DataError: the data set has no items.parquet, or the folder is not new.
        ConfigurationError: the share is not between 0 and 1.
    """
    if not 0 <= clones <= 1:
        raise ConfigurationError(f"The share of clones is {clones}; it must be between 0 and 1.")
    require_new_folder(destination)
    table = dataset.items()
    if table is None:
        raise DataError(f"Data set {dataset.name!r} has no items.parquet, so there is nothing to make ads of.")
    items = table.collect()
    threshold = np.uint64(min(int(clones * 2**64), 2**64 - 1))
    cloned = items.filter(pl.Series(hash_strings(items["item_id"], seed + 4) < threshold))
    # Drawn before the identifier changes: a clone has its original's advertiser.
    originals = with_ads(items, seed)
    copies = originals.filter(pl.col("item_id").is_in(cloned["item_id"].implode()))
    copies = copies.with_columns(pl.col("item_id") + CLONE_MARK)
    fresh = with_ads(copies.drop("conversion_type", "bid"), seed)
    shifted = (copies["conversion_type"] + 1 + fresh["conversion_type"] % 3) % 4
    copies = copies.with_columns(fresh["bid"], shifted.alias("conversion_type"))
    events = dataset.interactions().with_row_index("_row")
    # Fibonacci hashing of the row's number, modulo 2^64: the upper half of the results is a fair coin.
    coin = (pl.col("_row").cast(pl.UInt64) + seed) * pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64) >= 2**63
    taken = pl.col("item_id").is_in(cloned["item_id"].implode()) & coin
    events = events.with_columns(
        item_id=pl.when(taken).then(pl.col("item_id") + CLONE_MARK).otherwise(pl.col("item_id"))
    ).drop("_row")
    facts: dict[str, Any] = {
        **dataset.facts,
        "name": f"{dataset.name}-synthetic-ads",
        "source": f"{dataset.name} with simulated ads, seed {seed}",
        "synthetic": True,
        "simulated": {"clones": len(copies), "seed": seed},
    }
    facts["counts"] = {**facts.get("counts", {}), "items": len(originals) + len(copies)}
    with write_folder_atomically(destination) as folder:
        pl.concat([originals, copies]).write_parquet(folder / "items.parquet")
        events.sink_parquet(folder / "interactions.parquet")
        users = dataset.users()
        if users is not None:
            users.sink_parquet(folder / "users.parquet")
        write_json(folder / MANIFEST, facts)
    return Dataset.open(destination)


def _normal(hashes: NDArray[np.uint64], salt: int) -> NDArray[np.float64]:
    """Standard normal numbers float64 ``[N]`` that depend on each hash alone (Box and Muller, 1958)."""
    first = mix(hashes ^ np.uint64(2 * salt + 1))
    uniform, angle = ((part >> np.uint64(11)).astype(np.float64) / 2**53 for part in (first, mix(first)))
    normal: NDArray[np.float64] = np.sqrt(-2 * np.log1p(-uniform)) * np.cos(2 * np.pi * angle)
    return normal
