"""Rows and their vectors in one contiguous array that grows, shrinks and changes in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recascade.errors import DataError

_SMALLEST = 1024
_ABSENT = -1


class VectorTable:
    """A set of rows (item indices), each with a vector; all vectors lie side by side, so that a scan reads one block.

    A row's place among the others (its slot) changes when other rows are removed. Memory: 4·d bytes per vector, with
    room for at most as many again, and 8 bytes per possible row up to the largest one.

    Args:
        dimension: width d of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._count = 0
        self._vectors = np.empty((0, dimension), dtype=np.float32)
        self._rows = np.empty(0, dtype=np.int64)
        self._slots = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32 ``[n, d]``, a view in the order of the slots; the next change may move it."""
        return self._vectors[: self._count]

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 ``[n]``, the row in each slot; a view."""
        return self._rows[: self._count]

    def upsert(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Set the vectors of these rows; of a row given twice the last vector stays.

        Args:
            rows: int64 ``[m]``, 0 or more.
            vectors: float32 ``[m, d]``, finite.

        Raises:
            DataError: shapes do not fit, a row is negative or a vector is not finite; nothing has changed.
        """
        self._check(rows, vectors)
        if not len(rows):
            return
        self._know(int(rows.max()))
        fresh = np.unique(rows[self._slots[rows] == _ABSENT])
        self._reserve(self._count + len(fresh))
        slots = np.arange(self._count, self._count + len(fresh))
        self._slots[fresh] = slots
        self._rows[slots] = fresh
        self._count += len(fresh)
        self._vectors[self._slots[rows]] = vectors

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Forget these rows (int64 ``[m]``); rows that are not there are ignored."""
        rows = self.present(rows)
        holes = self._slots[rows]
        self._slots[rows] = _ABSENT
        kept = self._count - len(rows)
        # The last vectors that stay move into the holes before them.
        staying = np.ones(len(rows), dtype=bool)
        staying[holes[holes >= kept] - kept] = False
        movers = np.flatnonzero(staying) + kept
        targets = holes[holes < kept]
        self._vectors[targets] = self._vectors[movers]
        self._rows[targets] = self._rows[movers]
        self._slots[self._rows[targets]] = targets
        self._count = kept

    def present(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the given rows that are in the table, each once, ascending."""
        known: NDArray[np.int64] = np.unique(rows[(rows >= 0) & (rows < len(self._slots))])
        return np.compress(self._slots[known] != _ABSENT, known)

    def vectors_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 ``[m, d]`` of rows that are all in the table."""
        return self._vectors[self._slots[rows]]

    def copy(self) -> VectorTable:
        """An independent table with the same content."""
        other = VectorTable(self.dimension)
        other._count = self._count
        other._vectors, other._rows, other._slots = self.vectors.copy(), self.rows.copy(), self._slots.copy()
        return other

    def _check(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if vectors.shape != (len(rows), self.dimension):
            raise DataError(
                f"The index holds vectors of {self.dimension} numbers and was given an array of shape {vectors.shape} "
                f"for {len(rows)} rows; encode the items with the model that the index was made for."
            )
        if len(rows) and rows.min() < 0:
            raise DataError(f"Row {rows.min()} cannot be indexed; rows are 0 or more.")
        # A sum is finite unless a term is not, and needs no array of its own.
        if not np.isfinite(vectors.sum(dtype=np.float64)):
            bad = int(rows[~np.isfinite(vectors).all(axis=1)][0])
            raise DataError(
                f"The vector of row {bad} has a value that is not a finite number; train with a lower rate."
            )

    def _know(self, largest: int) -> None:
        if largest >= len(self._slots):
            known = np.full(max(largest + 1, 2 * len(self._slots), _SMALLEST), _ABSENT, dtype=np.int64)
            known[: len(self._slots)] = self._slots
            self._slots = known

    def _reserve(self, count: int) -> None:
        if count > len(self._rows):
            capacity = max(count, 2 * len(self._rows), _SMALLEST)
            vectors = np.empty((capacity, self.dimension), dtype=np.float32)
            rows = np.empty(capacity, dtype=np.int64)
            vectors[: self._count], rows[: self._count] = self.vectors, self.rows
            self._vectors, self._rows = vectors, rows
