"""Personal frequency counts the request's own history."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recascade.data.encoded import EncodedSplit
from recascade.evaluation.requests import requests
from recascade.models.personal_frequency import PersonalFrequency


@pytest.fixture
def data(encoded_split: Callable[..., EncodedSplit]) -> EncodedSplit:
    return encoded_split([[1, 1, 1, 0, 2, 2], [4, 4, 4, 4]], items=5, test=[[3], [3]])


def test_own_counts_come_first_then_popularity(data: EncodedSplit) -> None:
    found = PersonalFrequency.fit(data).retrieve(requests(data.events, data.test, np.array([0, 1])), 5)
    assert found.items.tolist() == [[1, 2, 0, 4, 3], [4, 1, 2, 0, 3]]
    assert found.scores[0, :3].tolist() == [3, 2, 1]


def test_decay_prefers_what_is_recent(data: EncodedSplit) -> None:
    found = PersonalFrequency.fit(data, decay=0.5).retrieve(requests(data.events, data.test, np.array([0])), 3)
    assert found.items.tolist() == [[2, 0, 1]]
    assert found.scores[0].tolist() == [1.5, 0.25, 0.125 + 0.0625 + 0.03125]
