from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.cascade.held_lists import without_latest
from recascade.data.encoded import EncodedSplit
from recascade.errors import ConfigurationError, DataError

MakeSplit = Callable[..., EncodedSplit]


def history(data: EncodedSplit, user: int) -> list[int]:
    return data.events.items[data.events.offsets[user] : data.train_ends[user]].tolist()


def outcome(data: EncodedSplit, user: int) -> list[int]:
    return data.events.items[data.train_ends[user] : data.events.offsets[user + 1]].tolist()


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda lengths: max(lengths) > 1),
    share=st.floats(0.05, 0.9),
)
def test_the_held_events_are_the_latest_training_events_and_nothing_else(
    encoded_split: MakeSplit, lengths: list[int], share: float
) -> None:
    # Training items are below 100, validation items 100…, test items 200…
    histories = [list(range(length)) for length in lengths]
    data = encoded_split(
        histories,
        items=300,
        validation=[[100 + user] for user in range(len(lengths))],
        test=[[200 + user] for user in range(len(lengths))],
    )
    inner = without_latest(data, share)
    assert inner.events.items.max(initial=0) < 100
    assert np.all(inner.validation.target_items < 100)
    assert np.all((inner.test.target_items >= 100) & (inner.test.target_items < 200)), "tests on the validation part"
    for user, events in enumerate(histories):
        assert history(inner, user) + outcome(inner, user) == events
        if len(events) > 1:
            assert history(inner, user), "nobody is asked for without a history"
            assert len(outcome(inner, user)) == min(max(1, round(share * len(events))), len(events) - 1)


def test_what_the_validation_and_test_part_say_changes_nothing(encoded_split: MakeSplit) -> None:
    histories = [[0, 1, 2, 3], [4, 5, 6]]
    first = without_latest(encoded_split(histories, items=9, validation=[[7], [7]], test=[[8], [8]]), 0.3)
    other = without_latest(encoded_split(histories, items=9, validation=[[1], [2]], test=[[3], [4]]), 0.3)
    assert np.array_equal(first.events.items, other.events.items)
    assert np.array_equal(first.train_ends, other.train_ends)


def test_groups_stay_whole(encoded_split: MakeSplit) -> None:
    data = encoded_split([[0, 1, 2, 3, 4]], items=9, groups=[[0, 0, 1, 1, 1]], ties="group", validation=[[5]])
    inner = without_latest(replace(data, train_ends=np.array([5])), 0.2)
    assert outcome(inner, 0) == [2, 3, 4]


def test_a_temporal_split_is_cut_at_one_moment(encoded_split: MakeSplit) -> None:
    data = encoded_split(
        [[0, 1, 2], [3, 4], [5, 6]], items=9, times=[[1, 2, 9], [1, 3], [8, 10]], validation=[[], [], []]
    )
    manifest = replace(data.manifest, config=replace(data.manifest.config, protocol="temporal"))
    inner = without_latest(replace(data, manifest=manifest), 0.4)
    assert [outcome(inner, user) for user in range(3)] == [[2], [], []]
    assert [history(inner, user) for user in range(3)] == [[0, 1], [3, 4], []], "user 2 came after the moment"
    assert inner.validation.users.tolist() == [0]


def test_nothing_to_learn_from_is_said(encoded_split: MakeSplit) -> None:
    with pytest.raises(DataError, match="Nobody has training events both before and after"):
        without_latest(encoded_split([[0], [1]], items=3, validation=[[2], [2]]), 0.2)


def test_training_on_validation_events_is_refused(encoded_split: MakeSplit) -> None:
    data = encoded_split([[0, 1], [1, 2]], items=4, validation=[[3], [3]])
    with pytest.raises(ConfigurationError, match="leave it out"):
        without_latest(data.with_validation_trained(), 0.2)
