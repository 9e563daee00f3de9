"""The fingerprint of a split: equal if and only if two splits ask the same questions after the same training events."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl

from recascade.data.split_config import SplitConfig
from recascade.data.split_protocols import TRAIN


def split_fingerprint(config: SplitConfig, events: pl.DataFrame, catalogue: pl.Series) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over the rules, the targets, the training events and the catalogue.

    Args:
        config: the rules; tie rule, filters, cold-item rule, catalogue rule and protocol enter.
        events: user_id, item_id, timestamp, position, group, part and target, sorted by user_id, then position.
        catalogue: identifiers of the items that can be recommended, sorted.
    """
    rules = {
        "ties": config.ties,
        "filters": config.filters,
        "cold_items": config.cold_items,
        "catalogue": config.catalogue,
        "protocol": config.protocol,
    }
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode())
    digest.update(_table_digest(events.filter("target").select("user_id", "item_id", "position", "part")))
    training = events.filter(pl.col("part") == TRAIN)
    digest.update(_table_digest(training.select("user_id", "item_id", "timestamp", "group")))
    digest.update(_table_digest(catalogue.to_frame()))
    return digest.hexdigest()[:16]


def _table_digest(table: pl.DataFrame) -> bytes:
    """SHA-256 over the columns, whatever their chunks and buffers: strings as lengths and bytes, numbers as int64."""
    digest = hashlib.sha256()
    for column in table.iter_columns():
        if column.dtype == pl.String:
            digest.update(column.str.len_bytes().to_numpy().astype("<i8").tobytes())
            array = column.rechunk().to_arrow()
            _, offsets, text = array.buffers()
            if text is not None and offsets is not None:
                ends = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
                digest.update(memoryview(text)[int(ends[0]) : int(ends[-1])])
        else:
            digest.update(column.fill_null(-1).cast(pl.Int64).to_numpy().astype("<i8").tobytes())
    return digest.digest()
