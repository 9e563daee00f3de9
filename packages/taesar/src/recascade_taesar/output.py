"""Writing a regenerated data set: canonical Parquet with the origin of every event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recascade.data.audit import ROW_OWNER
from recascade.data.dataset import MANIFEST, Dataset
from recascade.data.domains import DOMAIN
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split
from recascade.data.split_parts import GIVEN_PART
from recascade.files import write_folder_atomically, write_json
from recascade_taesar.rows import ORIGINAL, ORIGINS

SUFFIX = "~regenerated"
"""Behind a user's name: the training-only user who has the regenerated row."""


def write_regenerated(
    split: Split,
    data: EncodedSplit,
    target: str,
    shards: Sequence[Path],
    destination: Path,
    *,
    union: bool,
    facts: dict[str, Any],
) -> Dataset:
    """Write ``interactions.parquet`` (and the target's ``items.parquet``) with the split as a column.

    A user's own events of the domain keep the user's name; a regenerated row is that of a training-only user of the
    same name and ``~regenerated``. With ``union`` both are trained on; otherwise the own events of training are
    ``history``, which is known but not trained on.

    Args:
        split: where the events come from.
        data: the same split, encoded.
        target: the domain.
        shards: files of regenerated rows, in the order of users.
        destination: a new folder.
        union: see above.
        facts: for the manifest.
    """
    assert data.item_domains is not None
    listed = split.items()
    with write_folder_atomically(destination) as folder:
        events = _own(split, target, union=union)
        if shards:
            events = pl.concat([events, _regenerated(data, target, shards)])
        events.sort("user_id", "position").sink_parquet(folder / "interactions.parquet")
        if listed is not None:
            known = pl.DataFrame({"item_id": data.items.ids.gather(data.item_domains.members(target))}).lazy()
            listed.join(known, on="item_id", how="semi").sink_parquet(folder / "items.parquet")
        written = pl.scan_parquet(folder / "interactions.parquet")
        counts = written.group_by(GIVEN_PART, "origin").len().collect(engine="streaming").sort(GIVEN_PART, "origin")
        manifest = {
            "name": f"{split.manifest.dataset}-{target}-regenerated",
            "adapter": "taesar",
            "source": f"{split.manifest.dataset}, split {split.manifest.fingerprint}",
            "terms": split.manifest.terms,
            "synthetic": split.manifest.synthetic,
            "counts": {f"{part} {origin}": count for part, origin, count in counts.iter_rows()},
        }
        write_json(folder / MANIFEST, manifest | facts)
    return Dataset.open(destination)


def _own(split: Split, target: str, *, union: bool) -> pl.LazyFrame:
    """The target domain's own events, with the split that they have in the mixed one."""
    inside = pl.col(DOMAIN).cast(pl.String) == target
    columns = ("user_id", "item_id", "timestamp", "position")
    training = split.part("train").filter(inside).select(*columns)
    known = training.group_by("user_id").len("known")
    enough = pl.col("known").fill_null(0) >= split.manifest.config.minimum_history
    parts = [training.with_columns(pl.lit("train" if union else "history").alias(GIVEN_PART))]
    for name in ("validation", "test"):
        held_out = split.part(name).filter(inside & pl.col("target")).select(*columns)
        evaluated = held_out.join(known, on="user_id", how="left").filter(enough).drop("known")
        parts.append(evaluated.with_columns(pl.lit(name).alias(GIVEN_PART)))
    return (
        pl.concat(parts)
        .sort("user_id", "position")
        .select(
            "user_id",
            "item_id",
            "timestamp",
            pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("position"),
            pl.lit(target).alias(DOMAIN),
            GIVEN_PART,
            pl.col("user_id").alias(ROW_OWNER),
            pl.lit(ORIGINS[ORIGINAL]).alias("origin"),
            pl.lit(None, dtype=pl.String).alias("source_item_id"),
            pl.lit(None, dtype=pl.Float32).alias("score"),
        )
    )


def _regenerated(data: EncodedSplit, target: str, shards: Sequence[Path]) -> pl.LazyFrame:
    owners = data.users.ids
    users = pl.DataFrame(
        {"users": np.arange(len(owners)), "user_id": owners + SUFFIX, ROW_OWNER: owners.alias(ROW_OWNER)}
    ).lazy()
    items = pl.DataFrame({"items": np.arange(len(data.items)), "item_id": data.items.ids}).lazy()
    sources = items.rename({"items": "sources", "item_id": "source_item_id"})
    rows = pl.scan_parquet(list(shards)).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).over("users").alias("position")
    )
    return (
        rows.join(users, on="users", how="left")
        .join(items, on="items", how="left")
        .join(sources, on="sources", how="left")
        .select(
            "user_id",
            "item_id",
            pl.col("timestamps").alias("timestamp"),
            "position",
            pl.lit(target).alias(DOMAIN),
            pl.lit("train").alias(GIVEN_PART),
            ROW_OWNER,
            pl.col("origins").replace_strict(dict(enumerate(ORIGINS)), return_dtype=pl.String).alias("origin"),
            "source_item_id",
            pl.col("scores").fill_nan(None).alias("score"),
        )
    )
