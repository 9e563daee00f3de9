"""Who and what is known before a stream begins: identifiers and features, in one row order, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recascade.data.dataset import Dataset
from recascade.data.features import FeatureTable, build_features
from recascade.files import write_folder_atomically

_SIDES = {"users": "user_id", "items": "item_id"}


@dataclass(frozen=True)
class Catalogue:
    """Users and items of the feature files.

    Attributes:
        users: identifiers; the row of each is its place.
        items: likewise.
        user_features: of these users, or None.
        item_features: of these items, or None.
    """

    users: list[str]
    items: list[str]
    user_features: FeatureTable | None
    item_features: FeatureTable | None

    @classmethod
    def of(cls, dataset: Dataset) -> Catalogue:
        """All rows of a data set's users and items, which say nothing of any event; none where there is no file."""
        users, user_features = _entities(dataset.users(), "user_id")
        items, item_features = _entities(dataset.items(), "item_id")
        return cls(users, items, user_features, item_features)

    def save(self, folder: Path) -> None:
        """Write a new folder, whole or not at all."""
        with write_folder_atomically(folder) as temporary:
            for side, ids, features in (
                ("users", self.users, self.user_features),
                ("items", self.items, self.item_features),
            ):
                pl.DataFrame({_SIDES[side]: pl.Series(ids, dtype=pl.String)}).write_parquet(
                    temporary / f"{side}.parquet"
                )
                if features is not None:
                    features.save(temporary / side)

    @classmethod
    def load(cls, folder: Path) -> Catalogue:
        """Read what ``save`` wrote."""
        ids = {side: pl.read_parquet(folder / f"{side}.parquet")[key].to_list() for side, key in _SIDES.items()}
        tables = {side: FeatureTable.load(folder / side) if (folder / side).exists() else None for side in _SIDES}
        return cls(ids["users"], ids["items"], tables["users"], tables["items"])


def _entities(frame: pl.LazyFrame | None, key: str) -> tuple[list[str], FeatureTable | None]:
    if frame is None:
        return [], None
    table = frame.collect(engine="streaming").unique(key, keep="first", maintain_order=True)
    ids = table[key].cast(pl.String)
    return ids.to_list(), build_features(table, key, ids.alias(key), np.ones(len(ids), dtype=np.bool_))
