"""Generated logs for tests, benchmarks and first steps. They are labelled synthetic wherever results are shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.dataset import Dataset
from recascade.data.synthetic_ring import FIRST_SECOND, draw, names, walk, write_manifest, zipf_weights
from recascade.files import write_folder_atomically

_DAY = 86_400


def markov_log(
    destination: Path,
    *,
    users: int,
    items: int,
    mean_length: float = 20.0,
    minimum_length: int = 5,
    follow: float = 0.7,
    skew: float = 1.0,
    basket_size: float = 1.0,
    features: bool = False,
    prices: bool = False,
    seed: int = 0,
    name: str = "synthetic",
) -> Dataset:
    """Write a log whose next event can be learnt, as a canonical folder.

    The items stand on a ring. With probability ``follow`` an event is one of the next two items on the ring after the
    user's event before; otherwise it is drawn by popularity (Zipf). A first-order model can thus reach about
    ``follow``.

    Args:
        destination: a new folder.
        users: how many users.
        items: how many items the events are drawn from.
        mean_length: mean events per user; lengths are ``minimum_length`` plus a geometric number.
        minimum_length: events of the shortest user.
        follow: probability that an event follows from the one before.
        skew: exponent of the popularity; 0 draws uniformly.
        basket_size: mean events that share a timestamp; 1 gives every event its own.
        features: also write items.parquet (category: the item's eighth of the ring; title, brand) and users.parquet
            (segment).
        prices: also give items a price and events a value (the price paid).
        seed: everything derives from it.
        name: of the data set.
    """
    random = np.random.default_rng(seed)
    lengths = minimum_length + random.geometric(1 / (1 + max(0.0, mean_length - minimum_length)), users) - 1
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    ring_item = random.permutation(items)
    places = _ring_places(random, starts, items, follow, skew)
    item_codes = ring_item[places]
    user_ids = names("u", np.arange(users), len(str(users)))
    item_ids = names("i", np.arange(items), len(str(items)))
    events = pl.DataFrame(
        {
            "user_id": user_ids.gather(np.repeat(np.arange(users), lengths)),
            "item_id": item_ids.gather(item_codes),
            "timestamp": _times(random, starts, lengths, basket_size),
        }
    )
    price: NDArray[np.float64] = random.lognormal(1.0, 0.7, items).round(2)
    if prices:
        paid = price[item_codes] * random.choice([1.0, 0.9], len(item_codes), p=[0.8, 0.2])
        events = events.with_columns(pl.Series("value", np.round(paid, 2)))
    with write_folder_atomically(destination) as folder:
        events.write_parquet(folder / "interactions.parquet")
        if features or prices:
            ring_place = np.argsort(ring_item)
            _items(random, item_ids, ring_place, price if prices else None).write_parquet(folder / "items.parquet")
        if features:
            segments = pl.Series("segment", ["small", "medium", "large"]).gather(np.digitize(lengths, [10, 30]))
            pl.DataFrame({"user_id": user_ids, "segment": segments}).write_parquet(folder / "users.parquet")
        write_manifest(folder, name, seed, {"interactions": len(events), "users": users, "items": items})
    return Dataset.open(destination)


GENERATED = {
    "synthetic-small": "generated: 300 users, 120 items, for trying things out",
    "synthetic-medium": "generated: 5,000 users, 1,000 items, with features",
    "synthetic-baskets": "generated: 500 users, 200 items in baskets, with prices and features",
}

_GENERATORS: dict[str, Callable[..., Dataset]] = {
    "synthetic-small": partial(markov_log, users=300, items=120),
    "synthetic-medium": partial(markov_log, users=5_000, items=1_000, features=True),
    "synthetic-baskets": partial(
        markov_log, users=500, items=200, mean_length=40.0, basket_size=3.0, features=True, prices=True
    ),
}


def generate(name: str, destination: Path) -> Dataset:
    """Write one of the ``GENERATED`` sets to a new folder."""
    return _GENERATORS[name](destination, name=name)


def _ring_places(
    random: np.random.Generator, starts: NDArray[np.int64], items: int, follow: float, skew: float
) -> NDArray[np.int64]:
    """Place on the ring of each event, given the first event of its user; that one is drawn."""
    count = len(starts)
    follows = (random.random(count) < follow) & (np.arange(count) != starts)
    steps = np.where(follows, random.integers(1, 3, count), 0)
    # Popular items are spread over the ring, so that popularity and category are unrelated.
    drawn = random.permutation(items)[draw(random, zipf_weights(items, skew), count)]
    # No user's first event follows, so where the users stand before is never asked.
    return walk(starts, drawn, steps, starts) % items


def _times(
    random: np.random.Generator, starts: NDArray[np.int64], lengths: NDArray[np.int64], basket_size: float
) -> NDArray[np.int64]:
    """Seconds, ascending within a user, equal inside a basket."""
    count = len(starts)
    new_basket = (random.random(count) < 1 / basket_size) | (np.arange(count) == starts)
    gaps = np.where(new_basket, 1 + random.exponential(3 * _DAY, count).astype(np.int64), 0)
    elapsed = np.cumsum(gaps)
    first = np.repeat(FIRST_SECOND + random.integers(0, 200 * _DAY, len(lengths)), lengths)
    times: NDArray[np.int64] = first + elapsed - elapsed[starts]
    return times


def _items(
    random: np.random.Generator, ids: pl.Series, ring_place: NDArray[np.int64], price: NDArray[np.float64] | None
) -> pl.DataFrame:
    count = len(ring_place)
    category = "category " + pl.Series(ring_place * 8 // count).cast(pl.String)
    brand = "brand " + pl.Series(random.integers(0, max(2, count // 10), count)).cast(pl.String)
    table = pl.DataFrame({"item_id": ids, "title": "Item " + ids, "text": brand + ", " + category, "brand": brand})
    table = table.with_columns(categories=category.reshape((-1, 1)).arr.to_list())
    return table if price is None else table.with_columns(price=pl.Series(price))
