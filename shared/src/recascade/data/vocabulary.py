"""Identifiers as indices: a numbering of strings that does not depend on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from recascade.data.fingerprint import TableDigest
from recascade.data.hashing import seeded_order
from recascade.data.schema import explain_read_failure
from recascade.errors import DataError
from recascade.files import write_atomically


class Vocabulary:
    """N distinct strings numbered 0…N-1.

    >>> letters = Vocabulary(["b", "a"])
    >>> letters.encode(["a", "b", "z"], unknown=-1).tolist()
    [1, 0, -1]
    >>> letters.decode([1, 0])
    ['a', 'b']
    """

    def __init__(self, ids: pl.Series | Sequence[str], *, kind: str = "id") -> None:
        """Number ``ids`` in the order given.

        Args:
            ids: distinct strings.
            kind: what they identify (``item``, ``user``), for error messages.
        """
        self.ids = pl.Series("id", ids, dtype=pl.String)
        self.kind = kind
        if self.ids.null_count() or self.ids.n_unique() != len(self.ids):
            raise DataError(f"The {kind} identifiers of a vocabulary must be distinct and not null.")
        self._dtype = pl.Enum(self.ids)

    @classmethod
    def seeded(cls, ids: pl.Series, seed: int, *, kind: str = "id", appended: pl.Series | None = None) -> Vocabulary:
        """Number the distinct strings of ``ids`` in a seeded order, then those of ``appended`` that are new.

        The order of any two does not depend on which others are there, so removing events never reorders what remains.
        """
        first = seeded_order(ids, seed)
        if appended is None:
            return cls(first, kind=kind)
        rest = seeded_order(appended.filter(~appended.is_in(first.implode())), seed)
        return cls(pl.concat([first, rest]), kind=kind)

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, ids: pl.Series | Sequence[str], unknown: Literal["error"] | int = "error") -> NDArray[np.int64]:
        """Index of each identifier.

        Args:
            ids: strings ``[N]``.
            unknown: the index to give to an identifier that is not in the vocabulary, or ``error``.

        Returns:
            int64 ``[N]``.

        Raises:
            DataError: with ``unknown="error"``, naming the first unknown identifier and its place.
        """
        asked = pl.Series("id", ids, dtype=pl.String)
        codes = asked.cast(self._dtype, strict=False).to_physical()
        if unknown == "error":
            missing = codes.is_null()
            if missing.any():
                row = int(missing.arg_true()[0])
                raise DataError(
                    f"{missing.sum():,} of {len(asked):,} {self.kind} identifiers are unknown to this model, first "
                    f"{asked[row]!r} in row {row + 1} (counted from 1); only identifiers seen in training can be used: "
                    "leave the others out."
                )
            return codes.to_numpy().astype(np.int64)
        return codes.cast(pl.Int64).fill_null(unknown).to_numpy()

    def decode(self, indices: ArrayLike) -> list[str]:
        """The identifiers of indices 0…N-1 (integer array of one dimension)."""
        chosen: list[str] = self.ids.gather(pl.Series(np.asarray(indices, dtype=np.int64))).to_list()
        return chosen

    def digest(self) -> str:
        """SHA-256 of the identifiers in their order, hexadecimal."""
        known = TableDigest()
        known.update(self.ids.to_frame())
        return known.digest().hex()

    def save(self, path: Path) -> None:
        """Write the identifiers as Parquet, one column ``id``, in order."""
        with write_atomically(path) as temporary:
            self.ids.to_frame().write_parquet(temporary)

    @classmethod
    def load(cls, path: Path, *, kind: str = "id") -> Vocabulary:
        """Read what ``save`` wrote."""
        with explain_read_failure(path):
            return cls(pl.read_parquet(path)["id"], kind=kind)
