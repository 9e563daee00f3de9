"""The fingerprint of a split: equal if and only if two splits ask the same questions after the same training events."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl

from recascade.data.split_config import SplitConfig


class TableDigest:
    """SHA-256 over the columns of a table that comes in pieces; where the pieces end does not matter.

    Strings count as their lengths and bytes, numbers as little-endian int64, null numbers as -1.
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[hashlib._Hash]] = {}

    def update(self, piece: pl.DataFrame) -> None:
        """Take the next rows."""
        for column in piece.iter_columns():
            numbers, text = self._columns.setdefault(column.name, [hashlib.sha256(), hashlib.sha256()])
            if column.dtype == pl.String:
                numbers.update(column.str.len_bytes().to_numpy().astype("<i8").tobytes())
                array = column.rechunk().to_arrow()
                _, offsets, characters = array.buffers()
                if offsets is not None and characters is not None:
                    ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
                    text.update(memoryview(characters)[int(ends[0]) : int(ends[-1])])
            else:
                numbers.update(column.cast(pl.Int64).fill_null(-1).to_numpy().astype("<i8").tobytes())

    def digest(self) -> bytes:
        """The hash of everything taken so far."""
        whole = hashlib.sha256()
        for name, (numbers, text) in self._columns.items():
            whole.update(name.encode() + numbers.digest() + text.digest())
        return whole.digest()


def split_fingerprint(
    config: SplitConfig, training: TableDigest, targets: dict[str, TableDigest], catalogue: pl.Series
) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over the rules, the targets, the training events and the catalogue.

    Args:
        config: the rules; tie rule, filters, cold-item rule, catalogue rule, protocol and target domain enter.
        training: of user_id, item_id, timestamp and group of the training events, sorted by user_id, then position.
        targets: of user_id, item_id and position of the targets of validation and test, sorted alike.
        catalogue: identifiers of the items that can be recommended, sorted.
    """
    rules = {
        "ties": config.ties,
        "filters": config.filters,
        "cold_items": config.cold_items,
        "catalogue": config.catalogue,
        "protocol": config.protocol,
    }
    if config.target_domain:
        rules["target_domain"] = config.target_domain
    listed = TableDigest()
    listed.update(catalogue.to_frame("item_id"))
    whole = hashlib.sha256(json.dumps(rules, sort_keys=True).encode())
    for part in (training, targets["validation"], targets["test"], listed):
        whole.update(part.digest())
    return whole.hexdigest()[:16]
