"""What all generated logs share: users who walk around a ring of items, and now and then jump to a popular one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.dataset import MANIFEST
from recascade.files import write_json

FIRST_SECOND = 1_704_067_200  # 2024-01-01


def zipf_weights(items: int, skew: float) -> NDArray[np.float64]:
    """float64 ``[items]``: cumulative weights of popularity, of which rank r has ``r ** -skew``."""
    weights: NDArray[np.float64] = np.cumsum(np.arange(1, items + 1, dtype=np.float64) ** -skew)
    return weights


def draw(random: np.random.Generator, cumulative: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """int64 ``[count]``: places drawn in proportion to weights, whose cumulative sums are given."""
    places: NDArray[np.int64] = np.searchsorted(cumulative, random.random(count) * cumulative[-1])
    return places


def walk(
    users: NDArray[np.int64], drawn: NDArray[np.integer], steps: NDArray[np.int64], places: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Place of each event, before it is wrapped around the ring: of the last draw, plus the steps taken since.

    Args:
        users: int64 ``[n]``, sorted.
        drawn: ``[n]``, the place of an event that does not follow.
        steps: int64 ``[n]``, 0 for an event that does not follow.
        places: ``[U]``, where each user stands.
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


def names(letter: str, codes: NDArray[np.int64], digits: int) -> pl.Series:
    """``u007`` and so on, whose order is that of the codes."""
    return pl.select(pl.lit(letter) + pl.Series(codes).cast(pl.String).str.zfill(digits)).to_series()


def write_manifest(folder: Path, name: str, seed: int, counts: Mapping[str, int]) -> None:
    """Say in the folder's manifest that the log was generated."""
    facts = {"name": name, "adapter": "synthetic", "source": f"generated, seed {seed}", "terms": "free"}
    write_json(folder / MANIFEST, {**facts, "synthetic": True, "counts": dict(counts)})
