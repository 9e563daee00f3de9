"""A generated log of any size: written block by block in the order of time, as a log is, and never held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recascade.data.dataset import MANIFEST, Dataset
from recascade.errors import ConfigurationError
from recascade.files import write_folder_atomically, write_json

EVENTS_PER_BLOCK = 1_000_000
_FIRST_SECOND = 1_704_067_200  # 2024-01-01
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
        facts = {"name": name, "adapter": "synthetic", "source": f"generated, seed {seed}", "terms": "free"}
        write_json(folder / MANIFEST, {**facts, "synthetic": True, "counts": {"interactions": events}})
    return Dataset.open(destination)


def _blocks(
    events: int, users: int, items: int, follow: float, skew: float, activity: float, seed: int
) -> Iterator[pl.DataFrame]:
    random = np.random.default_rng(seed)
    popularity = np.cumsum(np.arange(1, items + 1, dtype=np.float64) ** -skew)
    # Popular items are spread over the ring, so that neighbours on it are not equally popular.
    popular_places = random.permutation(items).astype(np.int32)
    user_weights = np.cumsum(random.lognormal(0.0, activity, users))
    places = popular_places[_draw(random, popularity, users)]
    for start in range(0, events, EVENTS_PER_BLOCK):
        count = min(EVENTS_PER_BLOCK, events - start)
        codes = np.sort(_draw(random, user_weights, count))
        drawn = popular_places[_draw(random, popularity, count)]
        steps = np.where(random.random(count) < follow, random.integers(1, 3, count), 0)
        block_places = _walk(codes, drawn, steps, places) % items
        places[codes] = block_places  # the last event of a user stands last
        order = np.argsort(_moments(random, codes), kind="stable")
        seconds = (start + np.arange(count)) * _SECONDS // events
        yield pl.DataFrame(
            {
                "user_id": _names("u", codes[order], users),
                "item_id": _names("i", block_places[order], items),
                "timestamp": _FIRST_SECOND + seconds,
            }
        )


def _draw(random: np.random.Generator, cumulative: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    places: NDArray[np.int64] = np.searchsorted(cumulative, random.random(count) * cumulative[-1], side="right")
    return places


def _walk(
    users: NDArray[np.int64], drawn: NDArray[np.int32], steps: NDArray[np.int64], places: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Place of each event, before it is wrapped around the ring: of the last draw, plus the steps taken since.

    Args:
        users: int64 ``[n]``, sorted.
        drawn: int32 ``[n]``, the place of an event that does not follow.
        steps: int64 ``[n]``, 0 for an event that does not follow.
        places: int32 ``[U]``, where each user stands.
    """
    index = np.arange(len(users))
    first = np.ones(len(users), dtype=np.bool_)
    first[1:] = users[1:] != users[:-1]
    follows = steps > 0
    base = np.where(follows, places[users], drawn)
    anchor = np.maximum.accumulate(np.where(first | ~follows, index, 0))
    taken = np.cumsum(steps)
    own = np.where(follows[anchor], steps[anchor], 0)
    walked: NDArray[np.int64] = base[anchor] + own + taken - taken[anchor]
    return walked


def _moments(random: np.random.Generator, users: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 ``[n]``: when in the block each event falls, ascending within a user."""
    moments = random.random(len(users))
    return moments[np.lexsort((moments, users))]


def _names(letter: str, codes: NDArray[np.int64], count: int) -> pl.Series:
    digits = len(str(count - 1))
    return pl.select(pl.lit(letter) + pl.Series(codes).cast(pl.String).str.zfill(digits)).to_series()
