"""From a split's identifiers to indices: the flat arrays that models train on, kept beside the split as memory maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recascade.data.counting import count_values, distinct_values
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences, ranges, stretches
from recascade.data.features import FeatureTable, build_features
from recascade.data.item_domains import ItemDomains, read_item_domains
from recascade.data.schema import explain_read_failure
from recascade.data.split import Split
from recascade.data.split_manifest import SplitManifest
from recascade.data.split_parts import GIVEN_PART
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError
from recascade.files import write_folder_atomically

# Part of the cache's name: another layout of the arrays must not read an older one.
_LAYOUT = 2
_ROWS_AT_A_TIME = 1_000_000
_UNKNOWN_TIME = np.iinfo(np.int64).min


def encode(split: Split, seed: int = 0) -> EncodedSplit:
    """Number the items and users of a split and lay its events out as flat arrays.

    Items are those of the training events and, if the split says ``catalogue=file``, of the catalogue file; users are
    those with training events, then those that appear only in held-out parts. Both are numbered in a seeded order that
    held-out events cannot change. Validation events of items outside the vocabulary are left out of the test histories;
    targets outside it are kept as -1. An unknown time becomes that of the event before, or 0.

    The arrays are written once into the split's folder (where it can be written) and opened as memory maps; training
    events are read in pieces. So a log larger than the memory can be trained on.

    Args:
        split: an opened split.
        seed: of the numbering.

    Raises:
        DataError: a file of the split is damaged, or the disk is full.
    """
    folder = split.path / f"encoded-{_LAYOUT}-{seed}"
    if not folder.is_dir():
        if not os.access(split.path, os.W_OK):
            return _encode(split, seed, None)
        with write_folder_atomically(folder) as temporary:
            _save(_encode(split, seed, temporary), temporary)
    return _load(folder, split.manifest)


def _encode(split: Split, seed: int, folder: Path | None) -> EncodedSplit:
    """Encode; the arrays as long as the log are files in ``folder`` from the start, if there is one."""
    training = split.part("train")
    trained = distinct_values(training, "item_id")
    items = Vocabulary.seeded(_item_ids(split, trained), seed, kind="item")
    # Rows of train.parquet are sorted by user_id, so the lengths say which rows are whose.
    lengths = count_values(training, "user_id")
    held_out = [distinct_values(split.part(part), "user_id") for part in ("validation", "test")]
    held_out_users = pl.concat(held_out).unique()
    users = Vocabulary.seeded(lengths["user_id"], seed, kind="user", appended=held_out_users)

    file_users = users.encode(lengths["user_id"])
    train_lengths = np.zeros(len(users), dtype=np.int64)
    train_lengths[file_users] = lengths["len"].to_numpy()
    validation, test = (_held_out_events(split, part, users, items) for part in ("validation", "test"))
    history = validation.filter(pl.col("item") >= 0)
    validation_lengths = np.bincount(history["user"], minlength=len(users))
    known_lengths = np.bincount(history.filter("known")["user"], minlength=len(users))
    offsets = _offsets(train_lengths + validation_lengths)
    train_ends = offsets[:-1] + train_lengths

    events = EventSequences(
        offsets=offsets,
        items=_array(folder, "items", offsets[-1], np.int32),
        timestamps=_array(folder, "timestamps", offsets[-1], np.int64),
        groups=_array(folder, "groups", offsets[-1], np.int32),
    )
    _place_training(split, events, items, file_users, lengths["len"].to_numpy())
    places = ranges(train_ends, validation_lengths)
    events.items[places] = history["item"].to_numpy()
    events.timestamps[places] = history["timestamp"].fill_null(_UNKNOWN_TIME).to_numpy()
    events.groups[places] = history["group"].to_numpy()
    _fill_unknown_times(events)

    trained_items = np.zeros(len(items), dtype=np.bool_)
    trained_items[items.encode(trained)] = True
    return EncodedSplit(
        manifest=split.manifest,
        items=items,
        users=users,
        events=events,
        train_ends=train_ends,
        validation=_held_out(validation, train_ends + known_lengths),
        test=_held_out(test, offsets[1:]),
        item_features=_features(split.items(), "item_id", items, trained_items),
        user_features=_features(split.users(), "user_id", users, train_lengths > 0),
        item_domains=read_item_domains(split, items),
    )


def _held_out_events(split: Split, part: str, users: Vocabulary, items: Vocabulary) -> pl.DataFrame:
    """The events of a held-out part by user, then time: user, item (-1: unknown), timestamp, group, target, known."""
    rows = split.part(part)
    known = pl.lit(False)
    if GIVEN_PART in rows.collect_schema():
        known = pl.col(GIVEN_PART) == "history"
    chosen = rows.select("user_id", "item_id", "timestamp", "group", "target", known=known)
    batches = [
        batch.select(
            pl.Series("user", users.encode(batch["user_id"]).astype(np.int32)),
            pl.Series("item", items.encode(batch["item_id"], unknown=-1).astype(np.int32)),
            "timestamp",
            "group",
            "target",
            "known",
        )
        for batch in chosen.collect_batches(chunk_size=_ROWS_AT_A_TIME, engine="streaming")
    ]
    return pl.concat(batches).sort("user", maintain_order=True)


def _item_ids(split: Split, trained: pl.Series) -> pl.Series:
    listed = split.items() if split.manifest.config.catalogue == "file" else None
    return (
        trained
        if listed is None
        else pl.concat([trained, listed.select("item_id").collect()["item_id"]]).drop_nulls().unique()
    )


def _array(folder: Path | None, name: str, rows: np.int64, dtype: type[Any]) -> NDArray[Any]:
    """A new array: in memory, or as ``NAME.npy`` in the folder with its place on the disk reserved."""
    if folder is None:
        return np.empty(rows, dtype=dtype)
    path = folder / f"{name}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(int(rows),))
    if hasattr(os, "posix_fallocate"):
        # A full disk must be an error here: writing to a map without room would kill the process.
        with path.open("rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    return cast("NDArray[Any]", array)


def _place_training(
    split: Split,
    events: EventSequences,
    items: Vocabulary,
    file_users: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Put each row of train.parquet where its user's events stand.

    Args:
        split: the split.
        events: the arrays to fill.
        items: the item vocabulary.
        file_users: int64 ``[S]``, index of each user in the order of the file.
        lengths: ``[S]``, how many rows each has there.
    """
    first_rows = np.cumsum(lengths) - lengths
    shift = events.offsets[file_users] - first_rows
    done = 0
    path = split.path / "train.parquet"
    with explain_read_failure(path):
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=["item_id", "timestamp", "group"]):
            rows = pl.DataFrame(batch)
            index = np.arange(done, done + len(rows))
            places = index + shift[np.searchsorted(first_rows, index, side="right") - 1]
            events.items[places] = items.encode(rows["item_id"])
            events.timestamps[places] = rows["timestamp"].fill_null(_UNKNOWN_TIME).to_numpy()
            events.groups[places] = rows["group"].to_numpy()
            done += len(rows)


def _fill_unknown_times(events: EventSequences) -> None:
    for first_user, last_user in stretches(events.offsets):
        offsets = events.offsets[first_user : last_user + 1]
        times = events.timestamps[offsets[0] : offsets[-1]]
        unknown = times == _UNKNOWN_TIME
        if not unknown.any():
            continue
        before = np.maximum.accumulate(np.where(unknown, -1, np.arange(len(times))))
        start = np.repeat(offsets[:-1] - offsets[0], np.diff(offsets))
        times[unknown] = np.where(before >= start, times[before], 0)[unknown]


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def _held_out(part: pl.DataFrame, history_ends: NDArray[np.int64]) -> HeldOut:
    targets = part.filter("target")
    evaluated, lengths = np.unique(targets["user"].to_numpy().astype(np.int64), return_counts=True)
    return HeldOut(
        users=evaluated,
        history_ends=history_ends[evaluated],
        target_offsets=_offsets(lengths),
        target_items=targets["item"].to_numpy(),
        target_timestamps=targets["timestamp"].fill_null(0).to_numpy(),
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
    """Write what ``_encode`` has not written already."""
    for name, array in _arrays(encoded).items():
        if isinstance(array, np.memmap):
            array.flush()
        else:
            np.save(folder / f"{name}.npy", array)
    encoded.items.save(folder / "items.parquet")
    encoded.users.save(folder / "users.parquet")
    if encoded.item_features is not None:
        encoded.item_features.save(folder / "item_features")
    if encoded.user_features is not None:
        encoded.user_features.save(folder / "user_features")
    if encoded.item_domains is not None:
        encoded.item_domains.save(folder / "item_domains.parquet")


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
        item_domains=ItemDomains.load(domains) if (domains := folder / "item_domains.parquet").is_file() else None,
    )
