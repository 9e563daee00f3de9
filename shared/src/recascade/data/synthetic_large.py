"""A generated log of any size: written block by block in the order of time, as a log is, and never held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recascade.data.dataset import Dataset
from recascade.data.synthetic_ring import FIRST_SECOND, draw, names, walk, write_manifest, zipf_weights
from recascade.errors import ConfigurationError
from recascade.files import write_folder_atomically

EVENTS_PER_BLOCK = 1_000_000
_SECONDS = 365 * 86_400


def large_log(
    destination: Path,
    *,
    events: int,
    users: int,
    items: int,
    follow: float = 0.7,
    skew: float = 1.0,
    activity: float = 1.0,
    seed: int = 0,
    name: str = "synthetic-large",
) -> Dataset:
    """Write a log whose next event can be learnt, as a canonical folder; rows are in the order of time.

    The items stand on a ring. With probability ``follow`` an event is one of the next two items on the ring after the
    user's event before; otherwise it is drawn by popularity (Zipf). Memory grows with users and items (about 40 bytes
    each), not with events. Users and items that no event falls on do not occur.

    Args:
        destination: a new folder.
        events: rows of interactions.parquet, spread evenly over one year.
        users: how many users the events are drawn from.
        items: how many items.
        follow: probability that an event follows from the user's one before.
        skew: exponent of the popularity; 0 draws uniformly.
        activity: standard deviation of the logarithm of the users' activity; 0 makes all equally active.
        seed: everything derives from it.
        name: of the data set.

    Raises:
        ConfigurationError: no events, users or items are asked for.
    """
    if min(events, users, items) < 1:
        raise ConfigurationError(
            f"A log of {events:,} events, {users:,} users and {items:,} items is none; each must be at least 1."
        )
    blocks = _blocks(events, users, items, follow, skew, activity, seed)
    with write_folder_atomically(destination) as folder:
        first = next(blocks).to_arrow()
        with pq.ParquetWriter(folder / "interactions.parquet", first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for block in blocks:
                writer.write_table(block.to_arrow())
        write_manifest(folder, name, seed, {"interactions": events})
    return Dataset.open(destination)


def _blocks(
    events: int, users: int, items: int, follow: float, skew: float, activity: float, seed: int
) -> Iterator[pl.DataFrame]:
    random = np.random.default_rng(seed)
    popularity = zipf_weights(items, skew)
    # Popular items are spread over the ring, so that neighbours on it are not equally popular.
    popular_places = random.permutation(items).astype(np.int32)
    user_weights = np.cumsum(random.lognormal(0.0, activity, users))
    places = popular_places[draw(random, popularity, users)]
    for start in range(0, events, EVENTS_PER_BLOCK):
        count = min(EVENTS_PER_BLOCK, events - start)
        codes = np.sort(draw(random, user_weights, count))
        drawn = popular_places[draw(random, popularity, count)]
        steps = np.where(random.random(count) < follow, random.integers(1, 3, count), 0)
        block_places = walk(codes, drawn, steps, places) % items
        places[codes] = block_places  # the last event of a user stands last
        order = np.argsort(_moments(random, codes), kind="stable")
        seconds = (start + np.arange(count)) * _SECONDS // events
        yield pl.DataFrame(
            {
                "user_id": names("u", codes[order], len(str(users - 1))),
                "item_id": names("i", block_places[order], len(str(items - 1))),
                "timestamp": FIRST_SECOND + seconds,
            }
        )


def _moments(random: np.random.Generator, users: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 ``[n]``: when in the block each event falls, ascending within a user."""
    moments = random.random(len(users))
    return moments[np.lexsort((moments, users))]
