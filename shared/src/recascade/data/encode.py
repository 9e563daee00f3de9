"""From a split's identifiers to indices: the flat arrays that models train on, kept beside the split as memory maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences
from recascade.data.features import FeatureTable, build_features
from recascade.data.split import Split
from recascade.data.split_manifest import SplitManifest
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError
from recascade.files import write_folder_atomically

# Part of the cache's name: another layout of the arrays must not read an older one.
_LAYOUT = 1


def encode(split: Split, seed: int = 0) -> EncodedSplit:
    """Number the items and users of a split and lay its events out as flat arrays.

    Items are those of the training events and, if the split says ``catalogue=file``, of the catalogue file; users are
    those with training events, then those that appear only in held-out parts. Both are numbered in a seeded order
    that held-out events cannot change. Validation events of items outside the vocabulary are left out of the test
    histories; targets outside it are kept as -1.

    The arrays are written once into the split's folder (where it can be written) and opened as memory maps, so that a
    log larger than the memory can be trained on.

    Args:
        split: an opened split.
        seed: of the numbering.

    Raises:
        DataError: a file of the split is damaged.
    """
    folder = split.path / f"encoded-{_LAYOUT}-{seed}"
    if not folder.is_dir():
        encoded = _encode(split, seed)
        if not os.access(split.path, os.W_OK):
            return encoded
        with write_folder_atomically(folder) as temporary:
            _save(encoded, temporary)
    return _load(folder, split.manifest)


def _encode(split: Split, seed: int) -> EncodedSplit:
    training = _events(split, "train")
    validation, test = _events(split, "validation"), _events(split, "test")
    listed = split.items() if split.manifest.config.catalogue == "file" else None
    item_ids = [training["item_id"].unique()]
    if listed is not None:
        item_ids.append(listed.select("item_id").collect(engine="streaming")["item_id"].unique())
    items = Vocabulary.seeded(pl.concat(item_ids), seed, kind="item")
    held_out_users = pl.concat([validation["user_id"], test["user_id"]]).unique()
    users = Vocabulary.seeded(training["user_id"].unique(), seed, kind="user", appended=held_out_users)

    rows = pl.concat([training.with_columns(target=pl.lit(False)), validation])
    user_codes = users.encode(rows["user_id"])
    item_codes = items.encode(rows["item_id"], unknown=-1)
    order = np.argsort(user_codes, kind="stable")
    order = order[item_codes[order] >= 0]
    events = EventSequences(
        offsets=_offsets(user_codes[order], len(users)),
        items=item_codes[order].astype(np.int32),
        timestamps=rows["timestamp"].to_numpy()[order],
        groups=rows["group"].to_numpy()[order],
    )
    train_lengths = np.bincount(user_codes[: len(training)], minlength=len(users))
    train_ends = events.offsets[:-1] + train_lengths
    trained_items = np.zeros(len(items), dtype=np.bool_)
    trained_items[item_codes[: len(training)]] = True
    return EncodedSplit(
        manifest=split.manifest,
        items=items,
        users=users,
        events=events,
        train_ends=train_ends,
        validation=_held_out(validation, users, items, train_ends),
        test=_held_out(test, users, items, events.offsets[1:]),
        item_features=_features(split.items(), "item_id", items, trained_items),
        user_features=_features(split.users(), "user_id", users, train_lengths > 0),
    )


def _events(split: Split, part: str) -> pl.DataFrame:
    """The columns to encode; an unknown time is taken from the event before, or after, or is 0."""
    columns = ["user_id", "item_id", "timestamp", "group"] + ([] if part == "train" else ["target"])
    rows = split.part(part).select(columns).collect(engine="streaming")
    if rows["timestamp"].null_count():
        time = pl.col("timestamp")
        rows = rows.with_columns(time.forward_fill().backward_fill().over("user_id", order_by="group").fill_null(0))
    return rows


def _offsets(sorted_codes: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    lengths = np.bincount(sorted_codes, minlength=rows)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def _held_out(part: pl.DataFrame, users: Vocabulary, items: Vocabulary, history_ends: NDArray[np.int64]) -> HeldOut:
    targets = part.filter("target")
    codes = users.encode(targets["user_id"])
    order = np.argsort(codes, kind="stable")
    evaluated, lengths = np.unique(codes, return_counts=True)
    return HeldOut(
        users=evaluated,
        history_ends=history_ends[evaluated],
        target_offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]),
        target_items=items.encode(targets["item_id"], unknown=-1)[order].astype(np.int32),
        target_timestamps=targets["timestamp"].to_numpy()[order],
    )


def _features(
    table: pl.LazyFrame | None, key: str, vocabulary: Vocabulary, trained: NDArray[np.bool_]
) -> FeatureTable | None:
    if table is None:
        return None
    return build_features(table.collect(engine="streaming"), key, vocabulary.ids, trained)


def _arrays(encoded: EncodedSplit) -> dict[str, NDArray[Any]]:
    events = encoded.events
    arrays: dict[str, NDArray[Any]] = {
        "offsets": events.offsets,
        "items": events.items,
        "timestamps": events.timestamps,
        "groups": events.groups,
        "train_ends": encoded.train_ends,
    }
    for name in ("validation", "test"):
        held_out: HeldOut = getattr(encoded, name)
        arrays |= {f"{name}-{field}": value for field, value in vars(held_out).items()}
    return arrays


def _save(encoded: EncodedSplit, folder: Path) -> None:
    for name, array in _arrays(encoded).items():
        np.save(folder / f"{name}.npy", array)
    encoded.items.save(folder / "items.parquet")
    encoded.users.save(folder / "users.parquet")
    if encoded.item_features is not None:
        encoded.item_features.save(folder / "item_features")
    if encoded.user_features is not None:
        encoded.user_features.save(folder / "user_features")


def _load(folder: Path, manifest: SplitManifest) -> EncodedSplit:
    def array(name: str) -> NDArray[Any]:
        try:
            # Copy-on-write maps: shared with the file until written to, so torch can take them without a copy.
            loaded: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder / name}.npy is damaged ({error}); remove the folder {folder}, it will be made again."
            ) from error
        return loaded

    def held_out(name: str) -> HeldOut:
        return HeldOut(*(array(f"{name}-{field}") for field in HeldOut.__dataclass_fields__))

    def features(name: str) -> FeatureTable | None:
        return FeatureTable.load(folder / name) if (folder / name).is_dir() else None

    return EncodedSplit(
        manifest=manifest,
        items=Vocabulary.load(folder / "items.parquet", kind="item"),
        users=Vocabulary.load(folder / "users.parquet", kind="user"),
        events=EventSequences(array("offsets"), array("items"), array("timestamps"), array("groups")),
        train_ends=array("train_ends"),
        validation=held_out("validation"),
        test=held_out("test"),
        item_features=features("item_features"),
        user_features=features("user_features"),
    )
