from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from mixed_domains import mixed_log

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_from_events import lists_from_events
from recascade.data.reranking_lists import RerankingLists
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError, DataError
from recascade.models.popularity import Popularity

SPLIT = SplitConfig(protocol="temporal", targets="all", validation_fraction=0.4, test_fraction=0.2)
ALL = ListsConfig(candidates=30, initial="recorder", clicked_only=False, most_lists=0, window=3)


class Recorder:
    """Recommends the first items of the catalogue, and keeps what it was asked."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.asked: list[Context] = []

    def retrieve(self, context: Context, k: int, *, exclude_seen: bool = False, candidates=None) -> TopK:
        self.asked.append(context)
        items = torch.arange(k).masked_fill(torch.arange(k) >= self.items, -1).expand(context.batch_size, -1)
        scores = torch.where(items >= 0, -items.float(), -torch.inf)
        return TopK(items, scores)


def write_log(folder: Path, *, users: int = 12, events: int = 300, seed: int = 0, **more) -> Dataset:
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    columns = {
        "user_id": [f"u{user}" for user in random.integers(0, users, events)],
        "item_id": [f"i{item}" for item in random.integers(0, 20, events)],
        "timestamp": np.sort(random.integers(0, 1_000_000, events)),
    }
    pl.DataFrame(columns | more).write_parquet(folder / "interactions.parquet")
    return Dataset.open(folder)


def encoded(tmp_path: Path, split: SplitConfig = SPLIT, name: str = "log", **log) -> EncodedSplit:
    return encode(make_split(write_log(tmp_path / name, **log), split, tmp_path / f"{name}-split"))


def made(data: EncodedSplit, config: ListsConfig = ALL) -> tuple[RerankingLists, Recorder]:
    recorder = Recorder(len(data.items))
    return lists_from_events(data, recorder, config), recorder


def test_a_list_knows_nothing_of_its_own_time_or_later(tmp_path: Path) -> None:
    lists, recorder = made(encoded(tmp_path))
    context = lists.context(np.arange(len(lists)))
    assert (context.timestamps <= context.now[context.rows]).all()
    first_unknown = lists.events.timestamps[lists.history_ends]
    assert np.array_equal(first_unknown, lists.times)
    for asked in recorder.asked:
        assert (asked.timestamps <= asked.now[asked.rows]).all()


def test_only_items_of_the_target_domain_are_listed(tmp_path: Path) -> None:
    """As in evaluation and service: nothing else can answer a request."""
    split = SplitConfig(protocol="ratio", targets="all", validation_fraction=0.4, target_domain="books")
    data = encode(make_split(mixed_log(tmp_path / "mixed"), split, tmp_path / "split"))
    assert data.rankable is not None
    lists = lists_from_events(data, Popularity.fit(data), replace(ALL, candidates=10))
    assert np.isin(lists.items, data.rankable).all()


def test_the_earlier_stage_was_trained_before_every_list_and_test_lists_come_last(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    lists, _ = made(data)
    starts = np.repeat(data.events.offsets[:-1], data.events.lengths)
    trained = np.arange(len(starts)) < np.repeat(data.train_ends, data.events.lengths)
    assert data.events.timestamps[trained].max() < lists.times.min()
    by_part = [lists.times[lists.rows(part)] for part in ("train", "validation", "test")]
    assert by_part[0].max() < by_part[1].min() and by_part[1].max() < by_part[2].min()


def test_what_the_users_do_later_changes_no_training_list_but_its_labels(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    targets = data.test.target_items[::-1].copy()
    other = replace(data, test=replace(data.test, target_items=targets))
    one, _ = made(data)
    two, _ = made(other)
    rows = one.rows("train")
    first, second = one.batch(rows), two.batch(two.rows("train"))
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name)), name
    assert np.array_equal(one.inputs.item_features, two.inputs.item_features)


def test_labels_are_what_the_user_did_next(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    lists, _ = made(data)
    owners = np.repeat(np.arange(len(lists)), lists.lengths)
    for row in range(len(lists)):
        user, end = lists.users[row], lists.history_ends[row]
        same_part = np.flatnonzero((lists.users == user) & (lists.history_ends > end))
        stop = lists.history_ends[same_part].min() if len(same_part) else lists.events.offsets[user + 1]
        outcome = set(lists.events.items[end : min(stop, end + 3)].tolist())
        liked = set(lists.items[(owners == row) & (lists.labels > 0)].tolist())
        assert liked == outcome


def test_windows_tile_the_held_out_events(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    lists, _ = made(data)
    held = len(lists.events.items) - int(data.train_lengths.sum())
    users = [lists.history_ends[lists.users == user] for user in range(len(data.users))]
    assert len(lists) >= held / 3
    assert all((np.diff(np.sort(ends)) <= 3).all() for ends in users)


def test_a_group_is_one_request(tmp_path: Path) -> None:
    stamps = np.repeat(np.arange(60) * 1000, 5)
    lists, _ = made(encoded(tmp_path, replace(SPLIT, ties="group"), timestamp=stamps))
    keys = list(zip(lists.users.tolist(), lists.times.tolist(), strict=True))
    assert len(keys) == len(set(keys))
    context = lists.context(np.arange(len(lists)))
    assert (context.timestamps < context.now[context.rows]).all()


@pytest.mark.parametrize("protocol", ["ratio", "leave-one-out"])
def test_other_protocols_let_some_users_validate(tmp_path: Path, protocol: str) -> None:
    lists, _ = made(encoded(tmp_path, replace(SPLIT, protocol=protocol), users=40))
    users = [set(lists.users[lists.rows(part)].tolist()) for part in ("train", "validation")]
    assert users[0] and users[1] and not users[0] & users[1]


def test_lists_without_a_click_are_left_out_and_counted(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    config = replace(ALL, candidates=4)
    every, _ = made(data, config)
    kept, _ = made(data, replace(config, clicked_only=True))
    clicked = np.add.reduceat(every.labels > 0, every.offsets[:-1], dtype=np.int64) > 0
    assert kept.ids.to_list() == [name for name, good in zip(every.ids.to_list(), clicked, strict=True) if good]
    assert 0 < kept.facts["share_without_click"]["train"] < 1
    assert sum(kept.facts["lists"].values()) == len(kept)


def had_before(lists: RerankingLists) -> list[bool]:
    """Whether each candidate stands in the history of its request."""
    context = lists.context(np.arange(len(lists)))
    histories = [context.items[context.rows == row].tolist() for row in range(len(lists))]
    owners = np.repeat(np.arange(len(lists)), lists.lengths)
    return [item in histories[row] for row, item in zip(owners, lists.items.tolist(), strict=True)]


def test_what_users_had_before_is_counted_and_is_no_fault_where_they_have_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists, _ = made(encoded(tmp_path))
    had = np.array(had_before(lists))
    assert 0 < had.mean() < 1
    expected = {"candidates": had.mean(), "positives": had[lists.labels > 0].mean()}
    assert lists.facts["share_had_before"] == pytest.approx(expected)
    assert not caplog.records


def test_candidates_that_nobody_has_again_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    once = [f"i{item}" for users in zip(*(random.permutation(20) for _ in range(12)), strict=True) for item in users]
    log = {"user_id": [f"u{user}" for _ in range(20) for user in range(12)], "item_id": once}
    data = encoded(tmp_path, events=240, **log)
    lists, _ = made(data)
    shares = lists.facts["share_had_before"]
    assert shares == {"candidates": pytest.approx(np.mean(had_before(lists))), "positives": 0.0}
    assert shares["candidates"] > 0.3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "lists.exclude_seen=true" in caplog.text


def test_a_sample_is_the_same_each_time_and_no_larger_than_asked(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    config = replace(ALL, most_lists=5)
    one, recorder = made(data, config)
    two, _ = made(data, config)
    assert one.ids.to_list() == two.ids.to_list()
    assert all(len(one.rows(part)) <= 5 for part in ("train", "validation", "test"))
    assert sum(asked.batch_size for asked in recorder.asked) <= 15


def test_short_lists_stay_short(tmp_path: Path) -> None:
    lists, _ = made(encoded(tmp_path))
    assert set(lists.lengths.tolist()) == {20}
    assert lists.schema.candidates == 30


def test_impossible_settings_and_empty_parts_are_explained(tmp_path: Path) -> None:
    data = encoded(tmp_path)
    with pytest.raises(ConfigurationError, match=r"lists\.candidates is 1"):
        made(data, replace(ALL, candidates=1))

    class Blind(Recorder):
        def retrieve(self, context: Context, k: int, **how) -> TopK:
            found = super().retrieve(context, k)
            return TopK(torch.full_like(found.items, -1), torch.full_like(found.scores, -torch.inf))

    with pytest.raises(DataError, match="No train list"):
        lists_from_events(data, Blind(len(data.items)), ALL)
