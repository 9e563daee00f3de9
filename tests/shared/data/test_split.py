from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.dataset import Dataset
from recascade.data.split import Split, cached_split, make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import DataError

EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("uvwx"), st.integers(0, 12)), min_size=12, max_size=60
)
CONFIGS = st.builds(
    SplitConfig,
    protocol=st.sampled_from(["leave-one-out", "temporal", "ratio", "last-basket"]),
    ties=st.sampled_from(["shuffle", "group", "file"]),
    targets=st.sampled_from(["first", "all"]),
    cold_items=st.sampled_from(["miss", "drop"]),
    minimum_history=st.integers(0, 3),
    test_fraction=st.sampled_from([0.1, 0.3]),
)
PARTS = ("train", "validation", "test")


def split_rows(rows: list[tuple[str, str, int]], config: SplitConfig, folder: Path) -> Split:
    log = folder / "log"
    log.mkdir()
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_parquet(log / "interactions.parquet")
    return make_split(Dataset.open(log), config, folder / "split")


def parts_of(split: Split) -> dict[str, pl.DataFrame]:
    return {name: split.part(name).collect() for name in PARTS}


def test_parts_hold_every_event_once_in_order_of_time_and_targets_come_after_history() -> None:
    made = 0

    @settings(max_examples=80)
    @given(EVENTS, CONFIGS)
    def check(rows: list[tuple[str, str, int]], config: SplitConfig) -> None:
        nonlocal made
        with tempfile.TemporaryDirectory() as name:
            try:
                split = split_rows(rows, config, Path(name))
            except DataError as error:
                assert any(word in str(error) for word in ("can be evaluated", "training", "test period", "outside"))
                return
            parts = parts_of(split)
        made += 1
        whole = pl.concat([parts["train"], *(parts[part].drop("target") for part in PARTS[1:])])
        assert sorted(whole.select("user_id", "item_id", "timestamp").rows()) == sorted(rows)
        for part in parts.values():
            assert part.select("user_id", "position").rows() == sorted(part.select("user_id", "position").rows())
        for _, user in whole.group_by("user_id", maintain_order=True):
            assert user["position"].to_list() == list(range(len(user)))
            assert user["timestamp"].is_sorted()
        counts = split.manifest.counts
        assert counts["train_events"] == len(parts["train"])
        assert counts["test_targets"] == parts["test"]["target"].sum() > 0
        trained = parts["train"]["user_id"].value_counts()
        length = dict(trained.iter_rows())
        for part in ("validation", "test"):
            evaluated = parts[part].filter("target")["user_id"].unique()
            assert counts[f"{part}_users"] == len(evaluated)
            assert all(length.get(user, 0) >= config.minimum_history for user in evaluated)
        known = set(parts["train"]["item_id"])
        cold = [item for item in parts["test"].filter("target")["item_id"] if item not in known]
        assert (cold == []) if config.cold_items == "drop" else (len(cold) == counts["test_cold_targets"])

    check()
    assert made > 20


@settings(max_examples=40)
@given(EVENTS, CONFIGS, st.randoms())
def test_neither_row_order_nor_piece_size_changes_the_fingerprint(rows, config, random) -> None:
    config.ties = "shuffle" if config.ties == "file" else config.ties
    shuffled = list(rows)
    random.shuffle(shuffled)
    fingerprints = []
    for order, size in ((rows, 1_000), (shuffled, 1_000), (rows, 5)):
        with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECASCADE_MEMORY", str(size * 1_600))
            try:
                fingerprints.append(split_rows(order, config, Path(name)).manifest.fingerprint)
            except DataError as error:
                fingerprints.append(str(error).split("'")[-1])
    assert len(set(fingerprints)) == 1


def test_every_rule_and_every_target_enters_the_fingerprint(tmp_path: Path) -> None:
    rows = [(user, f"i{place % 5}", place // 2) for user in "abc" for place in range(8)]
    items = pl.DataFrame({"item_id": ["i0", "new"]})
    variants = {
        "plain": (rows, SplitConfig()),
        "seed": (rows, SplitConfig(seed=1)),
        "ties": (rows, SplitConfig(ties="file")),
        "cold": (rows, SplitConfig(cold_items="drop")),
        "catalogue": (rows, SplitConfig(catalogue="file")),
        "protocol": (rows, SplitConfig(protocol="ratio")),
        "minimum": (rows, SplitConfig(minimum_history=2)),
        "target": ([*rows[:-1], ("c", "i0", 3)], SplitConfig()),
        "training": ([("a", "i4", 0), *rows[1:]], SplitConfig()),
        "time": ([(user, item, time + (user == "a" and time == 0)) for user, item, time in rows], SplitConfig()),
    }
    fingerprints = {}
    for name, (events, config) in variants.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log").mkdir()
        items.write_parquet(folder / "log" / "items.parquet")
        frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
        frame.write_parquet(folder / "log" / "interactions.parquet")
        fingerprints[name] = make_split(Dataset.open(folder / "log"), config, folder / "split").manifest.fingerprint
    assert len(set(fingerprints.values())) == len(fingerprints), fingerprints
    assert all(len(fingerprint) == 16 for fingerprint in fingerprints.values())


def history(*times: int, user: str = "a") -> list[tuple[str, str, int]]:
    return [(user, f"i{place}", time) for place, time in enumerate(times)]


def target_items(split: Split, part: str) -> list[str]:
    return split.part(part).filter("target").collect()["item_id"].to_list()


def test_leave_one_out_takes_the_two_last(tmp_path: Path) -> None:
    split = split_rows(history(1, 2, 3, 4) + history(1, 2, user="short"), SplitConfig(), tmp_path)
    assert target_items(split, "validation") == ["i2"]
    assert target_items(split, "test") == ["i3"]
    assert split.part("train").collect()["user_id"].to_list() == ["a", "a", "short", "short"]
    assert split.manifest.counts["users_not_evaluated"] == 1


def test_leave_one_out_of_groups_takes_whole_groups(tmp_path: Path) -> None:
    split = split_rows(history(1, 1, 2, 2, 3, 3, 3), SplitConfig(ties="group"), tmp_path)
    assert sorted(target_items(split, "validation")) == ["i2", "i3"]
    assert sorted(target_items(split, "test")) == ["i4", "i5", "i6"]
    assert split.part("test").collect()["group"].to_list() == [2, 2, 2]


@pytest.mark.parametrize("ties", ["shuffle", "file", "group"])
def test_last_basket_takes_the_events_of_the_last_time_whatever_the_ties(ties: str, tmp_path: Path) -> None:
    split = split_rows(history(1, 1, 2, 2, 3, 3, 3), SplitConfig(protocol="last-basket", ties=ties), tmp_path)
    assert sorted(target_items(split, "validation")) == ["i2", "i3"]
    assert sorted(target_items(split, "test")) == ["i4", "i5", "i6"]
    assert split.manifest.tied_target_share == 0.0


def test_ratio_takes_the_ends(tmp_path: Path) -> None:
    config = SplitConfig(protocol="ratio", validation_fraction=0.2, test_fraction=0.3, targets="all")
    split = split_rows(history(*range(10)), config, tmp_path)
    assert target_items(split, "validation") == ["i5", "i6"]
    assert target_items(split, "test") == ["i7", "i8", "i9"]


def test_temporal_cuts_all_users_at_the_same_moments(tmp_path: Path) -> None:
    rows = history(1, 5, 10, 15, 20) + history(2, 11, 12, 21, 22, user="b") + history(11, 21, user="late")
    config = SplitConfig(protocol="temporal", validation_time="10", test_time="20")
    split = split_rows(rows, config, tmp_path)
    assert split.part("train").collect().select("user_id", "item_id").rows() == [("a", "i0"), ("a", "i1"), ("b", "i0")]
    targets = {
        part: split.part(part).filter("target").select("user_id", "item_id").collect().rows() for part in PARTS[1:]
    }
    assert targets == {"validation": [("a", "i2"), ("b", "i1")], "test": [("a", "i4"), ("b", "i3")]}
    assert split.manifest.times == {"validation_time": 10, "test_time": 20}


def test_temporal_moments_by_share(tmp_path: Path) -> None:
    rows = [(f"u{place % 10}", f"i{place}", place) for place in range(1_000)]
    config = SplitConfig(protocol="temporal", validation_fraction=0.2, test_fraction=0.1, targets="all")
    split = split_rows(rows, config, tmp_path)
    assert [split.manifest.counts[f"{part}_events"] for part in PARTS] == [700, 200, 100]


def test_the_tied_share_counts_test_targets_at_the_time_of_the_event_before(tmp_path: Path) -> None:
    rows = history(1, 2, 3, 3) + history(1, 2, 3, 4, user="b") + history(1, 2, 3, 5, user="c")
    assert split_rows(rows, SplitConfig(ties="file"), tmp_path).manifest.tied_target_share == pytest.approx(1 / 3)


def test_cold_targets_are_missed_or_dropped(tmp_path: Path) -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "new", 3), ("b", "y", 1), ("b", "x", 2), ("b", "y", 3)]
    (tmp_path / "nobody").mkdir()
    with pytest.raises(DataError, match="All 1 test targets of data set 'log' are items outside the catalogue"):
        split_rows(rows[:3], SplitConfig(cold_items="drop"), tmp_path / "nobody")
    for rule, users in (("miss", ["a", "b"]), ("drop", ["b"])):
        (tmp_path / rule).mkdir()
        split = split_rows(rows, SplitConfig(cold_items=rule), tmp_path / rule)
        assert split.part("test").filter("target").collect()["user_id"].to_list() == users
        assert split.manifest.counts["test_cold_targets"] == 1


def test_events_without_a_position_are_counted_and_dropped(write_log, tmp_path: Path) -> None:
    rows = [*history(1, 2, 3, 4), ("a", "unplaced", None)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log = write_log(frame.with_columns(position=pl.Series([0, 1, 2, 3, None], dtype=pl.Int32)))
    split = make_split(log, SplitConfig(), tmp_path / "split")
    assert split.manifest.counts["dropped_without_order"] == 1
    assert split.manifest.counts["train_events"] == 2


def test_columns_of_the_log_and_feature_files_come_along(write_log, tmp_path: Path) -> None:
    frame = pl.DataFrame(history(1, 2, 3, 4), schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": ["i0"], "brand": ["b"]})
    log = write_log(frame.with_columns(value=pl.Series([1.0, 2.0, 3.0, 4.0])), items=items)
    split = make_split(log, SplitConfig(), tmp_path / "split")
    assert split.part("test").collect()["value"].to_list() == [4.0]
    assert split.items().collect().rows() == [("i0", "b")]
    assert split.users() is None


@pytest.mark.parametrize(
    ("rows", "config", "sentence"),
    [
        (history(1, 2), SplitConfig(), "each needs two events to hold out and 1 to train on"),
        (history(1, 1, 2, 3), SplitConfig(minimum_history=3, protocol="last-basket"), "two baskets to hold out and 3"),
        (history(1, 2, 3), SplitConfig(user_min_events=9), "dropped by core 3"),
        ([], SplitConfig(), "holds no events"),
        (history(1, 2, 3), SplitConfig(protocol="temporal", test_time="0"), "No event lies before the test period"),
        (
            history(1, 2, 3),
            SplitConfig(protocol="temporal", test_time="3", validation_time="3"),
            "validation period would begin at 3, not before the test period at 3",
        ),
        (
            history(5, 6, 7),
            SplitConfig(protocol="temporal", test_time="7", validation_time="5"),
            "validation period begins before the first event",
        ),
        (history(1, 2, 3), SplitConfig(protocol="temporal", test_time="9", validation_time="8"), "in the test period"),
        (history(1, 2, 3), SplitConfig(catalogue="file"), "needs items.parquet, which data set 'written' has not"),
        (history(1, -2, 3), SplitConfig(), "in 1 row, first in row 2 (counted from 1), timestamp is negative"),
        (history(1, 2, 10**12), SplitConfig(), "suggests milliseconds"),
        ([("a", None, 1)], SplitConfig(), "item_id is null"),
    ],
)
def test_what_cannot_be_split_is_said_and_leaves_nothing(rows, config, sentence, write_log, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        make_split(write_log(rows), config, tmp_path / "split")
    assert sentence in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["written"]


def test_positions_that_contradict_times_are_named(write_log, tmp_path: Path) -> None:
    frame = pl.DataFrame(history(1, 5, 3, 4), schema=["user_id", "item_id", "timestamp"], orient="row")
    log = write_log(frame.with_columns(position=pl.int_range(4, dtype=pl.Int32)))
    with pytest.raises(DataError, match="contradicts 'timestamp' in 1 places, first at user 'a', item 'i2'"):
        make_split(log, SplitConfig(), tmp_path / "split")


def test_a_taken_folder_and_an_absent_split_are_refused(log: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        make_split(Dataset.open(log), SplitConfig(), tmp_path / "taken")
    with pytest.raises(DataError, match="holds no split"):
        Split.open(tmp_path / "taken")


def test_the_cache_follows_content_and_configuration(log: Path, home: Path, tmp_path: Path) -> None:
    first = cached_split(Dataset.open(log), SplitConfig())
    made = (first.path / "split.json").stat().st_mtime_ns
    assert cached_split(Dataset.open(log), SplitConfig()).path == first.path
    assert (first.path / "split.json").stat().st_mtime_ns == made
    assert cached_split(Dataset.open(log), SplitConfig(seed=1)).path != first.path
    changed = tmp_path / "log"
    changed.mkdir()
    Dataset.open(log).interactions().collect().head(400).write_parquet(changed / "interactions.parquet")
    assert cached_split(Dataset.open(changed), SplitConfig()).path != first.path
    assert all(not entry.name.startswith(".") for entry in (home / "splits").iterdir())


def test_published_counts_of_amazon_beauty(real_data, tmp_path: Path) -> None:
    split = make_split(real_data("amazon-beauty"), SplitConfig(ties="file"), tmp_path / "split")
    counts = split.manifest.counts
    assert (counts["users"], counts["read"], counts["test_targets"]) == (22_363, 198_502, 22_363)
    assert split.manifest.tied_target_share == pytest.approx(0.435, abs=0.001)


def test_tie_rules_on_amazon_beauty(real_data, tmp_path: Path) -> None:
    ascending = {}
    for ties in ("file", "shuffle"):
        split = make_split(real_data("amazon-beauty"), SplitConfig(ties=ties), tmp_path / ties)
        train = split.part("train").collect()
        same = train.select(
            tie=(pl.col("user_id") == pl.col("user_id").shift()) & (pl.col("timestamp") == pl.col("timestamp").shift()),
            up=pl.col("item_id") > pl.col("item_id").shift(),
        )
        ascending[ties] = same.filter("tie")["up"].mean()
    assert ascending["file"] > 0.99
    assert ascending["shuffle"] == pytest.approx(0.5, abs=0.02)


def test_household_baskets_are_whole(real_data, tmp_path: Path) -> None:
    config = SplitConfig(protocol="last-basket", ties="group", item_min_events=5)
    split = make_split(real_data("completejourney"), config, tmp_path / "split")
    parts = parts_of(split)
    for part in ("validation", "test"):
        targets = parts[part].filter("target")
        per_user = targets.group_by("user_id").agg(pl.col("timestamp").n_unique())
        assert per_user["timestamp"].max() == 1
    last_training = parts["train"].group_by("user_id").agg(pl.col("timestamp").max().alias("last"))
    first_target = parts["validation"].group_by("user_id").agg(pl.col("timestamp").min())
    joined = first_target.join(last_training, on="user_id")
    assert np.all((joined["timestamp"] > joined["last"]).to_numpy())
    assert all(first <= second for first, second in pairwise(parts["test"]["user_id"]))
