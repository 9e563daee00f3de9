"""UA-SID's last level: not clustered but hashed from business fields, so that equal creatives get unequal ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.hashing import hash_strings, mix
from recascade.errors import DataError, did_you_mean


@dataclass(frozen=True)
class HashedLevel:
    """A level whose code is a hash of some fields of an item, modulo its size (GR4AD §3.1, "multi-granularity").

    The paper names item id, account id and conversion type as fields and says neither key nor hash. Hashing the item id
    makes ids unique; hashing only what several items share (an account and its goal) lets them share the level, too.

    Attributes:
        size: codes of the level.
        keys: names of the fields, in order.
        salt: another salt gives an unrelated hash.
    """

    size: int
    keys: tuple[str, ...] = ("item_id",)
    salt: int = 0

    def codes(self, fields: pl.DataFrame) -> NDArray[np.int64]:
        """The codes of N items, int64 ``[N]``; the same on every machine and whatever other items there are.

        Args:
            fields: one row per item with the columns of ``keys``; null is a value like any other.

        Raises:
            DataError: a column is missing or holds lists.
        """
        hashes = mix(np.full(len(fields), self.salt % 2**64, dtype=np.uint64))
        for key in self.keys:
            hashes = mix(hashes ^ _hash_column(fields, key))
        return (hashes % np.uint64(self.size)).astype(np.int64)


def _hash_column(fields: pl.DataFrame, key: str) -> NDArray[np.uint64]:
    if key not in fields.columns:
        raise DataError(f"The items have no field {key!r} to hash.{did_you_mean(key, fields.columns)}")
    if fields[key].dtype.is_nested():
        raise DataError(
            f"The field {key!r} holds lists, which cannot be hashed; choose fields with one value per item."
        )
    text = fields[key].cast(pl.String)
    hashes = hash_strings(text.fill_null(""))
    # A null must not equal the empty text.
    hashes[text.is_null().to_numpy()] = np.uint64(0x9E3779B97F4A7C15)
    return hashes
