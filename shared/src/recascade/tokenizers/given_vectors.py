"""Vectors that a user brings, aligned with the items by identifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.schema import explain_read_failure
from recascade.errors import ConfigurationError, DataError

SUFFIXES = (".npy", ".parquet")


def given_vectors(
    path: Path, item_ids: pl.Series, file_order: pl.Series
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read one vector per item.

    A ``.parquet`` file has a column ``item_id`` and one other column of lists of numbers. A ``.npy`` file holds numbers
    ``[rows of items.parquet, d]``, in the order of that file. Vectors of items that are not asked for are left out.

    Args:
        path: of the file.
        item_ids: the I items wanted.
        file_order: all identifiers of items.parquet, in its order.

    Returns:
        float32 ``[I, d]`` and bool ``[I]``: the items without a vector, whose rows are 0.

    Raises:
        DataError: there is no such file, it is damaged, or has another shape, a value that is not finite, or two
            vectors of one item.
        ConfigurationError: it is neither ``.npy`` nor ``.parquet``.
    """
    if path.suffix == ".npy":
        owners, vectors = file_order, _read_npy(path, len(file_order))
    elif path.suffix == ".parquet":
        owners, vectors = read_vectors(path)
    else:
        raise ConfigurationError(
            f"tokenizer.content.source is {str(path)!r}; it must be text, sentence-transformers, or the path of a .npy "
            "or .parquet file."
        )
    _check_values(path, owners, vectors)
    places = pl.DataFrame({"item_id": owners, "place": np.arange(len(owners))})
    place = item_ids.to_frame("item_id").join(places, on="item_id", how="left", maintain_order="left")["place"]
    unknown = place.is_null().to_numpy()
    chosen = np.zeros((len(item_ids), vectors.shape[1]), dtype=np.float32)
    chosen[~unknown] = vectors[place.drop_nulls().to_numpy()]
    return chosen, unknown


def _read_npy(path: Path, rows: int) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is not a complete .npy file of numbers ({error}); write it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(f"{path} must hold numbers in two dimensions, one row per item of items.parquet.")
    if len(array) != rows:
        raise DataError(
            f"{path} has {len(array):,} rows, but items.parquet has {rows:,}, whose order they must follow; or give a "
            ".parquet file with the columns item_id and vector."
        )
    return array.astype(np.float32)


def read_vectors(path: Path, first: int = 0, rows: int | None = None) -> tuple[pl.Series, NDArray[np.float32]]:
    """Read identifiers and vectors, float32 ``[N, d]``, from a Parquet file; rows without a vector are left out.

    Args:
        path: a file with a column ``item_id`` and one other column of lists of numbers.
        first: row to begin with.
        rows: how many to read; None for all.

    Raises:
        DataError: there is no such file, it is damaged, or has other columns, vectors of several lengths, or none.
    """
    with explain_read_failure(path):
        table = pl.scan_parquet(path).slice(first, rows).collect()
    others = [name for name in table.columns if name != "item_id"]
    if (
        "item_id" not in table.columns
        or len(others) != 1
        or not isinstance(table[others[0]].dtype, (pl.List, pl.Array))
    ):
        raise DataError(
            f"{path} must have two columns, item_id and one of lists of numbers; it has {', '.join(table.columns)}."
        )
    lists = table[others[0]]
    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    table = table.with_columns(lists.alias("vector")).drop_nulls("vector")
    lengths = table["vector"].list.len()
    if not len(table):
        raise DataError(f"{path} holds no vector.")
    if lengths.n_unique() != 1:
        first = int((lengths != lengths[0]).arg_true()[0])
        raise DataError(
            f"The vectors of {path} differ in length: {lengths[0]} numbers in the first row, {lengths[first]} for item "
            f"{table['item_id'][first]!r}; give all items the same."
        )
    try:
        flat = table["vector"].explode().cast(pl.Float32).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"The vectors of {path} must be lists of numbers.") from error
    return table["item_id"].cast(pl.String), flat.reshape(len(table), -1).copy()


def _check_values(path: Path, owners: pl.Series, vectors: NDArray[np.float32]) -> None:
    if not vectors.shape[1]:
        raise DataError(f"The vectors of {path} have no numbers.")
    bad = np.logical_not(np.isfinite(vectors).all(axis=1))
    if bad.any():
        raise DataError(
            f"{int(bad.sum()):,} of {len(bad):,} vectors of {path} hold NaN or infinity, first that of item "
            f"{owners[int(bad.argmax())]!r}; mend them or leave these items out."
        )
    repeated = owners.is_duplicated()
    if repeated.any():
        raise DataError(f"{path} has two vectors of item {owners.filter(repeated)[0]!r}; keep one per item.")
