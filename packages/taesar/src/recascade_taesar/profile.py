"""The training events of one domain before and after regeneration, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.dataset import Dataset
from recascade.data.split_parts import GIVEN_PART
from recascade_taesar.rows import ORIGINS


@dataclass(frozen=True)
class Profile:
    """The rows of some events.

    Attributes:
        frequencies: int64 ``[I]``, events of each item, falling.
        lengths: int64 ``[R]``, events of each row, rising.
    """

    frequencies: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the events of the most frequent tenth of the items, the next two fifths, and the rarer half."""
        total = max(int(self.frequencies.sum()), 1)
        head, half = round(0.1 * len(self.frequencies)), round(0.5 * len(self.frequencies))
        pieces = np.split(self.frequencies, [head, half])
        return {name: int(piece.sum()) / total for name, piece in zip(("head", "middle", "tail"), pieces, strict=True)}


def profiles(dataset: Dataset) -> tuple[Profile, Profile, dict[str, int]]:
    """Before and after, and the number of training events by origin.

    Before are the domain's own training events; after is what is trained on.

    Args:
        dataset: written by ``write_regenerated``.
    """
    log = dataset.interactions()
    own = log.filter((pl.col("user_id") == pl.col("source_user_id")) & pl.col(GIVEN_PART).is_in(["train", "history"]))
    trained = log.filter(pl.col(GIVEN_PART) == "train")
    counted = dict(trained.group_by("origin").len().collect(engine="streaming").iter_rows())
    return _profile(own), _profile(trained), {origin: int(counted.get(origin, 0)) for origin in ORIGINS}


def _profile(events: pl.LazyFrame) -> Profile:
    def counts(column: str) -> NDArray[np.int64]:
        table = events.group_by(column).len().collect(engine="streaming")
        return np.sort(table["len"].to_numpy().astype(np.int64))

    return Profile(counts("item_id")[::-1], counts("user_id"))
