"""Identifiers as rows of tables that grow while a stream is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from recascade.data.schema import explain_read_failure
from recascade.errors import DataError
from recascade.files import write_atomically


class GrowingVocabulary:
    """Distinct strings numbered 0, 1, 2, … in the order in which they first appear; a number never changes.

    >>> users = GrowingVocabulary(["ann"])
    >>> users.encode(pl.Series(["bob", "ann", "bob"])).tolist()
    [1, 0, 1]
    >>> users.encode(pl.Series(["cid"]), grow=False).tolist()
    [-1]
    >>> users.decode([1])
    ['bob']
    """

    def __init__(self, known: Sequence[str] = (), *, kind: str = "id") -> None:
        """Start with some identifiers.

        Args:
            known: distinct strings that get the first rows, in this order.
            kind: what they identify (``item``, ``user``), for error messages.

        Raises:
            DataError: an identifier stands twice in ``known``.
        """
        self.kind = kind
        self._ids = list(known)
        self._rows = {identifier: row for row, identifier in enumerate(self._ids)}
        if len(self._rows) != len(self._ids):
            raise DataError(f"The {kind} identifiers of a vocabulary must be distinct.")

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> pl.Series:
        """All identifiers, string ``[len(self)]``, by row."""
        return pl.Series("id", self._ids, dtype=pl.String)

    def encode(self, ids: pl.Series, *, grow: bool = True) -> NDArray[np.int64]:
        """Row of each identifier.

        Args:
            ids: strings ``[n]``.
            grow: give identifiers never seen the next rows, in order of first appearance; otherwise they are -1.

        Returns:
            int64 ``[n]``.

        Raises:
            DataError: an identifier is null.
        """
        if ids.has_nulls():
            row = int(ids.is_null().arg_max() or 0)
            raise DataError(f"The {self.kind} identifier is null in row {row + 1} (counted from 1); drop such rows.")
        # The dictionary is asked once per distinct identifier: a chunk of a log repeats most of them.
        distinct = ids.unique(maintain_order=True)
        names = distinct.to_list()
        if grow:
            new = [name for name in names if name not in self._rows]
            self._rows.update(zip(new, range(len(self._ids), len(self._ids) + len(new)), strict=True))
            self._ids.extend(new)
        rows = np.array([self._rows.get(name, -1) for name in names], dtype=np.int64)
        places = ids.cast(pl.Enum(distinct)).to_physical().to_numpy()
        encoded: NDArray[np.int64] = rows[places]
        return encoded

    def decode(self, rows: ArrayLike) -> list[str]:
        """The identifiers of rows 0…len-1 (integer array of one dimension)."""
        return [self._ids[row] for row in np.asarray(rows, dtype=np.int64).tolist()]

    def save(self, path: Path) -> None:
        """Write the identifiers as Parquet, one column ``id``, by row."""
        with write_atomically(path) as temporary:
            self.ids.to_frame().write_parquet(temporary)

    @classmethod
    def load(cls, path: Path, *, kind: str = "id") -> GrowingVocabulary:
        """Read what ``save`` wrote.

        Raises:
            DataError: the file is absent or damaged.
        """
        with explain_read_failure(path):
            return cls(pl.read_parquet(path)["id"].to_list(), kind=kind)
