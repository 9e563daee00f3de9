"""Features of items or users as arrays, one row per index of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.files import read_json, write_json

# Free text is for text encoders, not for one embedding per distinct text.
TEXT_COLUMNS = ("title", "text")
# Our choice: an integer column with at most this many distinct values is a category (a year, a code), with more a
# quantity.
MOST_INTEGER_CATEGORIES = 100


@dataclass(frozen=True)
class MultiValued:
    """A feature with any number of values per row (the categories of an item).

    Attributes:
        name: of the column.
        cardinality: codes are 1…cardinality-1; 0 is kept for unknown, as in single-valued features.
        values: int32, the codes of all rows one after the other.
        offsets: int64 ``[N + 1]``; row n has ``values[offsets[n]:offsets[n + 1]]``, empty where nothing is known.
    """

    name: str
    cardinality: int
    values: NDArray[np.int32]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class FeatureTable:
    """Features of N items or users.

    Attributes:
        categorical: int32 ``[N, C]``, 0 where missing or not seen at least twice among the rows that training knows.
        categorical_names: the C column names.
        cardinalities: C numbers; codes of column c are 0…cardinalities[c]-1.
        numeric: float32 ``[N, M]``, standardised with the mean and deviation of the rows that training knows; 0 where
            missing.
        numeric_names: the M column names.
        multi_valued: the features with several values per row.
    """

    categorical: NDArray[np.int32]
    categorical_names: tuple[str, ...]
    cardinalities: tuple[int, ...]
    numeric: NDArray[np.float32]
    numeric_names: tuple[str, ...]
    multi_valued: tuple[MultiValued, ...] = ()

    def __len__(self) -> int:
        return len(self.categorical)

    def save(self, folder: Path) -> None:
        """Write the arrays as ``.npy`` and the names as JSON into a new folder."""
        folder.mkdir(parents=True)
        np.save(folder / "categorical.npy", self.categorical)
        np.save(folder / "numeric.npy", self.numeric)
        for number, feature in enumerate(self.multi_valued):
            np.save(folder / f"multi-{number}-values.npy", feature.values)
            np.save(folder / f"multi-{number}-offsets.npy", feature.offsets)
        names: dict[str, Any] = {
            "categorical": list(self.categorical_names),
            "cardinalities": list(self.cardinalities),
            "numeric": list(self.numeric_names),
            "multi_valued": [[feature.name, feature.cardinality] for feature in self.multi_valued],
        }
        write_json(folder / "names.json", names)

    @classmethod
    def load(cls, folder: Path) -> FeatureTable:
        """Open what ``save`` wrote, the arrays as memory maps."""
        names = read_json(folder / "names.json")
        return cls(
            categorical=_load(folder / "categorical.npy"),
            categorical_names=tuple(names["categorical"]),
            cardinalities=tuple(names["cardinalities"]),
            numeric=_load(folder / "numeric.npy"),
            numeric_names=tuple(names["numeric"]),
            multi_valued=tuple(
                MultiValued(
                    name,
                    cardinality,
                    _load(folder / f"multi-{number}-values.npy"),
                    _load(folder / f"multi-{number}-offsets.npy"),
                )
                for number, (name, cardinality) in enumerate(names["multi_valued"])
            ),
        )


def build_features(table: pl.DataFrame, key: str, ids: pl.Series, trained: NDArray[np.bool_]) -> FeatureTable | None:
    """Turn the columns of a feature file into arrays, each by its type.

    Strings whose values are shared (at most half as many distinct values as rows), booleans and integers with few
    distinct values become categories; other numbers become quantities; lists of strings become multi-valued
    categories. Titles, texts, constant columns and other types are left out.

    Args:
        table: the feature file, one row per identifier.
        key: its identifier column.
        ids: the vocabulary's N identifiers, in order.
        trained: bool ``[N]``, the rows that occur in training; only they define categories, means and deviations.

    Returns:
        The features, or None where no column is usable.
    """
    rows = ids.to_frame(key).join(table.unique(key, keep="first"), on=key, how="left", maintain_order="left")
    known = pl.Series(trained)
    categorical: dict[str, tuple[NDArray[np.int32], int]] = {}
    numeric: dict[str, NDArray[np.float32]] = {}
    multi_valued: list[MultiValued] = []
    for name, dtype in rows.schema.items():
        if name == key or name in TEXT_COLUMNS:
            continue
        column = rows[name]
        seen = column.filter(known).drop_nulls()
        if isinstance(dtype, pl.List) and dtype.inner == pl.String:
            feature = _multi_valued(column, seen)
            if feature.cardinality > 1:
                multi_valued.append(feature)
        elif _is_category(seen, dtype):
            codes, cardinality = _categories(column.cast(pl.String), seen.cast(pl.String))
            if cardinality > 2:
                categorical[name] = codes, cardinality
        elif dtype.is_numeric():
            values = _standardised(column, seen)
            if values is not None:
                numeric[name] = values
    if not (categorical or numeric or multi_valued):
        return None
    return FeatureTable(
        categorical=_stack([codes for codes, _ in categorical.values()], len(ids), np.int32),
        categorical_names=tuple(categorical),
        cardinalities=tuple(cardinality for _, cardinality in categorical.values()),
        numeric=_stack(list(numeric.values()), len(ids), np.float32),
        numeric_names=tuple(numeric),
        multi_valued=tuple(multi_valued),
    )


def _is_category(seen: pl.Series, dtype: pl.DataType) -> bool:
    if dtype == pl.Boolean:
        return True
    if dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return seen.n_unique() <= len(seen) / 2
    return dtype.is_integer() and seen.n_unique() <= MOST_INTEGER_CATEGORIES


def _shared_values(seen: pl.Series) -> pl.Series:
    """Values that occur at least twice, most frequent first: a value of one row says no more than the row's index."""
    counted = seen.rename("value").to_frame().group_by("value").len()
    return counted.filter(pl.col("len") >= 2).sort(["len", "value"], descending=[True, False])["value"]


def _categories(column: pl.Series, seen: pl.Series) -> tuple[NDArray[np.int32], int]:
    values = _shared_values(seen)
    codes = column.cast(pl.Enum(values), strict=False).to_physical().cast(pl.Int32) + 1
    return codes.fill_null(0).to_numpy(), len(values) + 1


def _multi_valued(column: pl.Series, seen: pl.Series) -> MultiValued:
    values = _shared_values(seen.explode(empty_as_null=False).drop_nulls())
    flat = pl.DataFrame({"row": pl.int_range(len(column), eager=True), "value": column}).explode("value").drop_nulls()
    codes = flat["value"].cast(pl.Enum(values), strict=False).to_physical().cast(pl.Int32) + 1
    kept = codes.is_not_null().to_numpy()
    lengths = np.bincount(flat["row"].to_numpy()[kept], minlength=len(column))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return MultiValued(column.name, len(values) + 1, codes.drop_nulls().to_numpy(), offsets)


def _standardised(column: pl.Series, seen: pl.Series) -> NDArray[np.float32] | None:
    finite = seen.cast(pl.Float64).to_numpy()
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0 or finite.std() == 0:
        return None
    values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    scaled = (values - finite.mean()) / finite.std()
    return np.where(np.isfinite(scaled), scaled, 0.0).astype(np.float32)


def _stack(columns: list[NDArray[Any]], rows: int, dtype: type) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=dtype)


def _load(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
