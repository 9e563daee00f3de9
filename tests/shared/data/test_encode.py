from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data import encode as encode_module
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import DataError

EVENTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("uvwxyz"), st.integers(0, 12)), min_size=1, max_size=60
)
CONFIGS = st.builds(
    SplitConfig,
    protocol=st.sampled_from(["leave-one-out", "temporal", "ratio", "last-basket"]),
    ties=st.sampled_from(["shuffle", "group", "file"]),
    targets=st.sampled_from(["first", "all"]),
    minimum_history=st.integers(0, 2),
)


def split_of(rows: list[tuple[str, str, int]], config: SplitConfig, folder: Path) -> Split:
    (folder / "log").mkdir()
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_parquet(folder / "log" / "interactions.parquet")
    return make_split(Dataset.open(folder / "log"), config, folder / "split")


def decoded_events(encoded: EncodedSplit, user: str, part: str) -> list[tuple[str, int]]:
    """(item, timestamp) of one user's training or validation events, read back from the arrays."""
    row = int(encoded.users.encode([user])[0])
    start, middle, end = encoded.events.offsets[row], encoded.train_ends[row], encoded.events.offsets[row + 1]
    chosen = slice(start, middle) if part == "train" else slice(middle, end)
    items = encoded.items.decode(encoded.events.items[chosen])
    return list(zip(items, encoded.events.timestamps[chosen].tolist(), strict=True))


@settings(max_examples=60)
@given(EVENTS, CONFIGS)
def test_arrays_say_what_the_parts_say(rows, config) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "_ROWS_AT_A_TIME", 7)
        try:
            split = split_of(rows, config, Path(name))
        except DataError:
            return
        encoded = encode(split)
        parts = {part: split.part(part).collect() for part in ("train", "validation", "test")}
        known = set(encoded.items.ids)
        assert known == set(parts["train"]["item_id"])
        for user in encoded.users.ids:
            for part in ("train", "validation"):
                rows_of_user = parts[part].filter(user_id=user).select("item_id", "timestamp").rows()
                assert decoded_events(encoded, user, part) == [row for row in rows_of_user if row[0] in known]
        for part in ("validation", "test"):
            held_out = getattr(encoded, part)
            targets = parts[part].filter("target")
            assert sorted(encoded.users.decode(held_out.users)) == sorted(set(targets["user_id"]))
            for row, user in enumerate(encoded.users.decode(held_out.users)):
                places = slice(held_out.target_offsets[row], held_out.target_offsets[row + 1])
                of_user = targets.filter(user_id=user)
                items = encoded.items.encode(of_user["item_id"], unknown=-1)
                assert held_out.target_items[places].tolist() == items.tolist()
                assert held_out.target_timestamps[places].tolist() == of_user["timestamp"].to_list()
            starts = encoded.events.offsets[held_out.users]
            ends = encoded.train_ends if part == "validation" else encoded.events.offsets[1:]
            np.testing.assert_array_equal(held_out.history_ends, ends[held_out.users])
            assert (held_out.history_ends >= starts).all()


def test_held_out_events_change_no_index(log: Path, tmp_path: Path) -> None:
    split = make_split(Dataset.open(log), SplitConfig(), tmp_path / "split")
    test = split.part("test").collect()
    invented = test.with_columns(item_id="never seen " + pl.col("item_id"))
    before = encode(split)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("train", "validation"):
        split.part(name).collect().write_parquet(other / f"{name}.parquet")
    invented.write_parquet(other / "test.parquet")
    split.manifest.save(other / "split.json")
    after = encode(Split.open(other))
    assert after.items.ids.to_list() == before.items.ids.to_list()
    assert after.users.ids.to_list() == before.users.ids.to_list()
    assert (after.test.target_items == -1).all()
    assert not (before.test.target_items == -1).all()


def test_the_seed_permutes_the_indices(log: Path, tmp_path: Path) -> None:
    split = make_split(Dataset.open(log), SplitConfig(), tmp_path / "split")
    one, other = encode(split, seed=0), encode(split, seed=1)
    assert one.items.ids.to_list() != other.items.ids.to_list()
    assert sorted(one.items.ids) == sorted(other.items.ids)
    assert one.items.ids.to_list() != sorted(one.items.ids)


def test_the_second_call_opens_the_same_arrays_as_maps(log: Path, tmp_path: Path) -> None:
    split = make_split(Dataset.open(log), SplitConfig(), tmp_path / "split")
    first, second = encode(split), encode(split)
    assert isinstance(second.events.items, np.memmap)
    for record in ("events", "validation", "test"):
        for field in fields(getattr(first, record)):
            one, other = (getattr(getattr(encoded, record), field.name) for encoded in (first, second))
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    second.events.items[:] = 0  # a map is private: the file stays
    assert encode(split).events.items.any()


def test_types_are_those_promised(log: Path, tmp_path: Path) -> None:
    encoded = encode(make_split(Dataset.open(log), SplitConfig(), tmp_path / "split"))
    dtypes = {name: getattr(encoded.events, name).dtype.name for name in ("offsets", "items", "timestamps", "groups")}
    assert dtypes == {"offsets": "int64", "items": "int32", "timestamps": "int64", "groups": "int32"}
    assert encoded.train_ends.dtype == np.int64
    held_out = {field.name: getattr(encoded.test, field.name).dtype.name for field in fields(encoded.test)}
    assert held_out == {
        "users": "int64",
        "history_ends": "int64",
        "target_offsets": "int64",
        "target_items": "int32",
        "target_timestamps": "int64",
    }


def test_the_catalogue_file_adds_items_and_users_without_training_come_last(write_log, tmp_path: Path) -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("b", "y", 1), ("b", "x", 2), ("new", "x", 8), ("a", "x", 9)]
    items = pl.DataFrame({"item_id": ["x", "y", "unsold"], "price": [1.0, 2.0, 3.0]})
    config = SplitConfig(
        protocol="temporal", validation_time="7", test_time="9", catalogue="file", minimum_history=0, targets="all"
    )
    encoded = encode(make_split(write_log(rows, items=items), config, tmp_path / "split"))
    assert set(encoded.items.ids) == {"x", "y", "unsold"}
    assert encoded.users.ids.to_list()[-1] == "new"
    assert encoded.train_lengths[-1] == 0
    assert encoded.users.decode(encoded.validation.users) == ["new"]
    assert encoded.item_features is not None and len(encoded.item_features) == 3


def test_an_unknown_time_is_that_of_the_event_before(write_log, tmp_path: Path) -> None:
    rows = [("a", f"i{place}", time) for place, time in enumerate([None, 5, None, 7, None])]
    rows += [("b", item, None) for item in ("i0", "i1", "i2", "i3")]
    frame = pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row")
    frame = frame.with_columns(position=pl.Series([0, 1, 2, 3, 4, 0, 1, 2, 3], dtype=pl.Int32))
    encoded = encode(make_split(write_log(frame), SplitConfig(), tmp_path / "split"))
    times = {user: [time for _, time in decoded_events(encoded, user, "train")] for user in "ab"}
    assert times == {"a": [0, 5, 5], "b": [0, 0]}


def test_damaged_arrays_are_named(log: Path, tmp_path: Path) -> None:
    split = make_split(Dataset.open(log), SplitConfig(), tmp_path / "split")
    encode(split)
    (array,) = split.path.glob("encoded-*/items.npy")
    array.write_bytes(array.read_bytes()[:300])
    with pytest.raises(DataError, match=r"items.npy is damaged .*remove the folder"):
        encode(split)


def test_a_damaged_part_is_named_and_leaves_no_cache(log: Path, tmp_path: Path) -> None:
    split = make_split(Dataset.open(log), SplitConfig(), tmp_path / "split")
    train = split.path / "train.parquet"
    train.write_bytes(train.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train.parquet is not a complete Parquet file"):
        encode(split)
    assert not list(split.path.glob("*encoded*"))


@pytest.mark.parametrize("name", ["amazon-beauty", "ml-100k"])
def test_real_logs_come_back(name: str, real_data, tmp_path: Path) -> None:
    split = make_split(real_data(name), SplitConfig(ties="file"), tmp_path / "split")
    encoded = encode(split)
    train = split.part("train").select("user_id", "item_id", "timestamp").collect()
    for user in train["user_id"].unique().sort().gather_every(200):
        rows = train.filter(user_id=user).select("item_id", "timestamp").rows()
        assert decoded_events(encoded, user, "train") == rows
    assert len(encoded.test) == split.manifest.counts["test_users"]
    assert encoded.item_features is not None
