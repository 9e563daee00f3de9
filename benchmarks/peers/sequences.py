"""From a canonical folder to one file of sequences that every library reads: leave-last-out, file order inside ties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl


def write_sequences(dataset: Path, destination: Path, seed: int = 0) -> None:
    """Split off each user's last event and number items and users.

    Rows without a ``position`` have no place in a sequence and are left out. Users with fewer than two events are too.
    Items are numbered in a seeded random order, so that no library gains by breaking equal scores in favour of low
    numbers.

    Args:
        dataset: folder with ``interactions.parquet`` (user_id, item_id, position).
        destination: ``.npz`` file with the arrays of ``workload.Sequences``.
        seed: of the numbering.
    """
    events = (
        pl.read_parquet(dataset / "interactions.parquet", columns=["user_id", "item_id", "position"])
        .drop_nulls("position")
        .sort("user_id", "position")
        .filter(pl.len().over("user_id") >= 2)
        .with_columns(last=pl.col("position") == pl.col("position").max().over("user_id"))
    )
    training = events.filter(~pl.col("last"))
    item_ids = training["item_id"].unique().sort()
    numbers = np.random.default_rng(seed).permutation(len(item_ids)).astype(np.int32)
    vocabulary = pl.DataFrame({"item_id": item_ids, "item": numbers})
    targets = events.filter("last").join(vocabulary, on="item_id", how="left", maintain_order="left")["item"]
    items = training.join(vocabulary, on="item_id", maintain_order="left")["item"]
    lengths = training.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    np.savez(
        destination,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        items=items.to_numpy(),
        targets=targets.fill_null(-1).to_numpy(),
        item_count=len(item_ids),
    )
