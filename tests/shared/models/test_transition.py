"""First-order transitions, between events or between groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recascade.data.encoded import EncodedSplit
from recascade.evaluation.requests import requests
from recascade.models.item_pairs import followed_by
from recascade.models.transition import Transition


def test_only_the_next_event_of_the_same_user_counts(encoded_split: Callable[..., EncodedSplit]) -> None:
    table = followed_by(encoded_split([[0, 1, 0, 1], [], [2, 0]], items=3)).toarray()
    assert table.tolist() == [[0, 2, 0], [1, 0, 0], [1, 0, 0]]


def test_groups_lead_to_the_next_group_whole(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1, 2, 3]], items=4, groups=[[0, 0, 1, 1]], ties="group")
    assert followed_by(data).toarray().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0] * 4, [0] * 4]


def test_ranks_by_what_followed_the_last_item(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1], [0, 1], [0, 2], [3, 3, 3, 0]], items=4, test=[[], [], [], [1]])
    found = Transition.fit(data).retrieve(requests(data.events, data.test, np.array([0])), 4)
    assert found.items.tolist() == [[1, 2, 0, 3]]
    assert found.scores[0, :2].tolist() == [2, 1]


def test_under_ties_group_the_whole_last_basket_is_the_start(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split(
        [[0, 2], [1, 3], [0, 1]],
        items=5,
        groups=[[0, 1], [0, 1], [0, 0]],
        times=[[1, 2], [1, 2], [7, 7]],
        test=[[], [], [4]],
        target_times=[[], [], [8]],
        ties="group",
    )
    found = Transition.fit(data).retrieve(requests(data.events, data.test, np.array([0])), 2)
    assert sorted(found.items[0].tolist()) == [2, 3]
