from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.filters import write_filtered
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.data.user_shards import user_shards
from recascade.errors import ConfigurationError, DataError

BYTES_PER_EVENT_HELD = 1_600
WORDS = st.lists(st.tuples(st.sampled_from(["ä", "a", "b", "B", "é", "user-shard"]), st.integers(0, 9)), max_size=40)

EVENTS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwx"), st.integers(0, 9)), min_size=10, max_size=60
)
DOMAINS = {"u": "shop", "v": "shop", "w": "news", "x": "news"}
CONFIGS = st.builds(
    SplitConfig,
    since=st.sampled_from(["", "2"]),
    deduplicate=st.sampled_from(["none", "exact", "first", "last"]),
    user_min_events=st.sampled_from([0, 3]),
    item_min_events=st.sampled_from([0, 2]),
    protocol=st.sampled_from(["leave-one-out", "temporal", "ratio", "last-basket"]),
    ties=st.sampled_from(["shuffle", "group", "file"]),
    targets=st.sampled_from(["first", "all"]),
    cold_items=st.sampled_from(["miss", "drop"]),
    minimum_history=st.integers(0, 2),
    target_domain=st.sampled_from(["", "shop"]),
)


def hold(patch: pytest.MonkeyPatch, events: int) -> None:
    """Let so many events be held at a time."""
    patch.setenv("RECASCADE_MEMORY", str(events * BYTES_PER_EVENT_HELD))


@given(WORDS, st.integers(1, 12))
@settings(max_examples=60)
@example([("a", 1)] * 5 + [("b", 2)], 2)
def test_shards_hold_whole_users_in_byte_order_and_rows_in_the_order_of_the_log(rows, held) -> None:
    log = pl.DataFrame(rows, schema={"user_id": pl.String, "value": pl.Int64}, orient="row")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        hold(patch, held)
        shards = list(user_shards(log.lazy(), Path(name)))
        assert not list(Path(name).iterdir())
    users = [shard["user_id"].unique().sort() for shard in shards]
    assert all(earlier[-1] < later[0] for earlier, later in pairwise(users))
    for shard in shards:
        longest = shard["user_id"].value_counts()["count"].max()
        assert len(shard) < held + (longest or 0)
    # A stable sort of the log by user is what the shards say one after the other, once each is sorted so.
    sorted_shards = [shard.sort("user_id", maintain_order=True) for shard in shards]
    assert pl.concat(sorted_shards).equals(log.sort("user_id", maintain_order=True))


def outcome(log: pl.DataFrame, config: SplitConfig, folder: Path) -> list[object]:
    """Everything that is known of a filtered set, a split and its encoding, or the sentence why there is none."""
    (folder / "log").mkdir()
    log.write_parquet(folder / "log" / "interactions.parquet")
    dataset = Dataset.open(folder / "log")
    found: list[object] = []
    try:
        filtered = write_filtered(dataset, config, folder / "filtered")
        found += [filtered.facts["counts"], filtered.interactions().collect().rows()]
        split = make_split(dataset, config, folder / "split")
    except (DataError, ConfigurationError) as error:
        return [*found, str(error).replace(str(folder), "")]
    found += [split.manifest, *(split.part(part).collect().rows() for part in ("train", "validation", "test"))]
    encoded = encode(split)
    return [*found, encoded.events.items.tolist(), encoded.events.timestamps.tolist(), encoded.test.users.tolist()]


@pytest.mark.parametrize("with_positions", [False, True])
def test_a_log_in_shards_gives_the_same_rows_counts_and_fingerprints_as_one_in_memory(with_positions: bool) -> None:
    made = 0

    @settings(max_examples=30)
    @given(EVENTS, CONFIGS, st.integers(1, 15), st.randoms())
    def check(rows, config: SplitConfig, held: int, random) -> None:
        nonlocal made
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        log = log.with_columns(value=pl.int_range(pl.len()), domain=pl.col("item_id").replace_strict(DOMAINS))
        if with_positions:
            # Positions know the order of a day; some times are unknown, and the rows lie about in any order.
            known = pl.when(pl.col("value") % 4 != 0).then("timestamp")
            log = log.sort("timestamp").with_columns(
                timestamp=known, position=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id")
            )
            log = log[random.sample(range(len(log)), len(log))]
        outcomes = []
        for size in (10_000, held):
            with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
                hold(patch, size)
                for module in ("filters.EVENTS_PER_BATCH", "encode._ROWS_AT_A_TIME", "events.EVENTS_AT_ONCE"):
                    patch.setattr(f"recascade.data.{module}", size)
                outcomes.append(outcome(log, config, Path(name)))
        assert outcomes[0] == outcomes[1]
        made += len(outcomes[0]) > 3

    check()
    assert made > 5
