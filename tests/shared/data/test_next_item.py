from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recascade.data import events as events_module
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences, ranges
from recascade.data.next_item import NextItemData, training_windows
from recascade.errors import ConfigurationError, DataError

DATA = Path(os.environ.get("RECASCADE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


@dataclass
class Settings:
    batch_sequences: int = 4
    batch_tokens: int = 0
    bucket: int = 2
    validation_users: int = 0
    workers: int = 0


def split(histories: list[list[list[int]]], held_out: list[int] | None = None, items: int = 1000) -> EncodedSplit:
    """Histories as lists of groups of items; the last ``held_out[u]`` groups of user u are not training."""
    held_out = held_out or [0] * len(histories)
    flat = [[item for group in history for item in group] for history in histories]
    groups = [[index for index, group in enumerate(history) for _ in group] for history in histories]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in flat])]).astype(np.int64)
    kept = [sum(map(len, history[: len(history) - out])) for history, out in zip(histories, held_out, strict=True)]
    train_ends = offsets[:-1] + np.array(kept, dtype=np.int64)
    events = EventSequences(
        offsets=offsets,
        items=np.array([item for history in flat for item in history], dtype=np.int32),
        timestamps=np.arange(offsets[-1]) * 10,
        groups=np.array([group for history in groups for group in history], dtype=np.int32),
    )
    users = np.flatnonzero(held_out)
    targets = train_ends[users]
    validation = HeldOut(users, targets, np.arange(len(users) + 1), events.items[targets], targets * 10)
    vocabularies: Any = (range(items), range(len(histories)))
    manifest: Any = None
    return EncodedSplit(manifest, *vocabularies, events, train_ends, validation, validation)


@st.composite
def histories(draw):
    """Distinct item numbers, so that an event is known by its item; each user trains on a prefix of their groups."""
    shapes = draw(st.lists(st.lists(st.integers(1, 4), max_size=8), min_size=1, max_size=8))
    held_out = [draw(st.integers(0, len(shape))) for shape in shapes]
    numbers = iter(range(10_000))
    return [[[next(numbers) for _ in range(size)] for size in shape] for shape in shapes], held_out


def predictions(data: EncodedSplit, max_length: int, windows: str) -> list[tuple[int, tuple[int, ...], int]]:
    """All (user, visible history, target) that one epoch trains on."""
    module = NextItemData(data, Settings(), max_length=max_length, windows=windows)
    found = []
    for batch in module.train_dataloader():
        offsets = batch.context.offsets.tolist()
        owners = range(len(batch.positions)) if batch.owners is None else batch.owners.tolist()
        rows = batch.context.rows
        for owner, target in zip(owners, batch.targets.tolist(), strict=True):
            position = int(batch.positions[owner])
            row = int(rows[position])
            history = tuple(batch.context.items[offsets[row] : position + 1].tolist())
            found.append((int(batch.context.users[row]), history, target))
    return sorted(found)


def expected_predictions(history, held_out) -> list[tuple[int, list[int], list[int]]]:
    """(user, everything before a group, the group) for each training group but the first, written as one says it."""
    expected = []
    for user, (groups, out) in enumerate(zip(history, held_out, strict=True)):
        training = groups[: len(groups) - out]
        for place in range(1, len(training)):
            before = [item for group in training[:place] for item in group]
            expected.append((user, before, training[place]))
    return expected


@given(histories(), st.integers(1, 12))
@settings(max_examples=150)
def test_chunks_train_on_every_later_group_once_and_see_only_what_came_before(log, max_length) -> None:
    history, held_out = log
    expected = expected_predictions(history, held_out)
    data = split(history, held_out, items=10_000)
    if not expected:
        with pytest.raises(DataError, match="no next item"):
            training_windows(data, max_length, "chunks")
        return
    found = predictions(data, max_length, "chunks")
    assert sorted((user, target) for user, _, target in found) == sorted(
        (user, target) for user, _, targets in expected for target in targets
    )
    before = {(user, target): everything for user, everything, targets in expected for target in targets}
    for user, seen, target in found:
        assert 0 < len(seen) <= max_length
        assert list(seen) == before[user, target][-len(seen) :]


@given(histories(), st.integers(1, 12))
@settings(max_examples=150)
def test_last_window_is_the_end_of_the_training_history(log, max_length) -> None:
    history, held_out = log
    expected = expected_predictions(history, held_out)
    if not expected:
        return
    found = predictions(split(history, held_out, items=10_000), max_length, "last")
    newest = {user: (before, targets) for user, before, targets in expected}
    longest: dict[int, tuple[int, ...]] = {}
    for user, seen, _ in found:
        longest[user] = max(longest.get(user, ()), seen, key=len)
    assert set(longest) == set(newest)
    for user, (before, targets) in newest.items():
        window = before[-max_length:]
        assert list(longest[user]) == window
        assert {target for owner, seen, target in found if owner == user and seen == tuple(window)} == set(targets)


@given(histories(), st.integers(1, 6), st.sampled_from(["last", "chunks"]), st.integers(1, 9))
@example(([[], [[0], [1, 2]]], [0, 0]), 1, "last", 1)
@settings(max_examples=80)
def test_what_is_computed_in_stretches_is_what_is_computed_at_once(log, max_length, kind, stretch) -> None:
    history, held_out = log
    data = split(history, held_out, items=10_000)
    counts = data.item_counts
    if not expected_predictions(history, held_out):
        return
    whole = training_windows(data, max_length, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "EVENTS_AT_ONCE", stretch)
        cut = training_windows(data, max_length, kind)
        assert np.array_equal(split(history, held_out, items=10_000).item_counts, counts)
    inputs = ranges(whole.starts, whole.lengths)
    assert np.array_equal(whole.followers[inputs], cut.followers[inputs])
    for one, other in zip(list(vars(whole).values())[:3], list(vars(cut).values())[:3], strict=True):
        assert np.array_equal(one, other)


def test_single_events_need_no_array_as_long_as_the_log() -> None:
    single = [[[1], [2], [3, 4]], [[5], [6]]]
    followers = training_windows(split(single, held_out=[1, 0]), 10).followers
    assert followers.strides == (0,)
    assert training_windows(split(single), 10).followers[[0, 1]].tolist() == [1, 2]


def test_single_events_predict_each_successor() -> None:
    data = split([[[1], [2], [3], [4]], [[5]], [[6], [7]]], held_out=[1, 0, 0])
    assert predictions(data, 10, "last") == [(0, (1,), 2), (0, (1, 2), 3), (2, (6,), 7)]
    batch = next(iter(NextItemData(data, Settings(), max_length=10).train_dataloader()))
    assert batch.owners is None
    assert batch.event_count == batch.target_count == 3


def test_baskets_are_predicted_as_sets_from_the_end_of_the_basket_before() -> None:
    data = split([[[1, 2], [3, 4, 5], [6]]])
    assert predictions(data, 10, "last") == [
        (0, (1, 2), 3),
        (0, (1, 2), 4),
        (0, (1, 2), 5),
        (0, (1, 2, 3, 4, 5), 6),
    ]
    batch = next(iter(NextItemData(data, Settings(), max_length=10).train_dataloader()))
    assert batch.positions.tolist() == [1, 4]
    assert batch.owners.tolist() == [0, 0, 0, 1]


def test_window_inside_one_basket_is_left_out() -> None:
    windows = training_windows(split([[[1, 2, 3, 4, 5, 6], [7]]]), 2, "chunks")
    assert windows.starts.tolist() == [4]


def test_batches_do_not_depend_on_held_out_events() -> None:
    history = [[[1], [2], [3], [9]], [[4], [5], [6]]]
    changed = [[[1], [2], [3], [8]], [[4], [5], [6]]]
    assert predictions(split(history, [1, 0]), 5, "last") == predictions(split(changed, [1, 0]), 5, "last")


def test_item_counts_leave_held_out_events_out_until_validation_is_trained() -> None:
    data = split([[[1], [2], [1], [3]], [[3]]], held_out=[1, 0], items=5)
    assert data.item_counts.tolist() == [0, 2, 1, 1, 0]
    assert data.with_validation_trained().item_counts.tolist() == [0, 2, 1, 2, 0]


def test_validation_rows_cover_all_users_over_the_ranks_and_samples_are_seeded() -> None:
    data = split([[[1]] * length for length in range(3, 603)], held_out=[1] * 600)
    rows = torch.cat(list(NextItemData(data, Settings(), max_length=5).val_dataloader()))
    assert sorted(rows.tolist()) == list(range(600))
    samples = [
        torch.cat(list(NextItemData(data, Settings(validation_users=50), max_length=5, seed=seed).val_dataloader()))
        for seed in (0, 0, 1)
    ]
    assert [len(set(sample.tolist())) for sample in samples] == [50, 50, 50]
    assert samples[0].equal(samples[1])
    assert not samples[0].equal(samples[2])


def test_dtypes_are_those_of_the_contract() -> None:
    batch = next(iter(NextItemData(split([[[1, 2], [3]]]), Settings(), max_length=5).train_dataloader()))
    context = batch.context
    tensors = (context.users, context.items, context.timestamps, context.offsets, batch.positions, batch.targets)
    assert {tensor.dtype for tensor in tensors} == {torch.int64}
    assert batch.to("cpu").owners.dtype == torch.int64


@pytest.mark.parametrize(("options", "named"), [({"max_length": 0}, "max_length is 0"), ({"windows": "all"}, "'all'")])
def test_impossible_windows_are_named(options, named) -> None:
    with pytest.raises(ConfigurationError, match=named):
        training_windows(split([[[1], [2]]]), **({"max_length": 5} | options))


@pytest.mark.skipif(not (DATA / "ml-100k").is_dir(), reason="MovieLens-100K is not there (set RECASCADE_DATA)")
def test_real_log_trains_on_every_event_but_the_first_of_each_user() -> None:
    table = pl.read_parquet(DATA / "ml-100k" / "interactions.parquet").sort("user_id", "position")
    items = table["item_id"].rank("dense").cast(pl.Int32) - 1
    lengths = table.group_by("user_id", maintain_order=True).len()["len"].to_list()
    numbers = iter(items.to_list())
    data = split([[[next(numbers)] for _ in range(length)] for length in lengths], items=1682)
    module = NextItemData(data, Settings(batch_sequences=64, batch_tokens=4096), max_length=50, windows="chunks")
    batches = list(module.train_dataloader())
    assert sum(batch.target_count for batch in batches) == len(table) - len(lengths)
    assert max(batch.event_count for batch in batches) <= 4096
    first = set(np.array(data.events.offsets[:-1]).tolist())
    counts = np.bincount(torch.cat([batch.targets for batch in batches]).numpy(), minlength=1682)
    later = np.array([item for index, item in enumerate(data.events.items.tolist()) if index not in first])
    assert np.array_equal(counts, np.bincount(later, minlength=1682))
