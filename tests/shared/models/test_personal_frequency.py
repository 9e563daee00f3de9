"""Personal frequency counts the request's own history."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.errors import DataError
from recascade.evaluation.requests import requests
from recascade.models.personal_frequency import PersonalFrequency


@pytest.fixture
def data(encoded_split: Callable[..., EncodedSplit]) -> EncodedSplit:
    return encoded_split([[1, 1, 1, 0, 2, 2], [4, 4, 4, 4]], items=5, test=[[3], [3]])


def test_own_counts_come_first_then_popularity(data: EncodedSplit) -> None:
    found = PersonalFrequency.fit(data).retrieve(requests(data.events, data.test, np.array([0, 1])), 5)
    assert found.items.tolist() == [[1, 2, 0, 4, 3], [4, 1, 2, 0, 3]]
    assert found.scores[0, :3].tolist() == [3, 2, 1]


@pytest.fixture
def tied() -> tuple[PersonalFrequency, Context]:
    """One request that had the items 0, 1 and 2 once each; popularity orders the catalogue 2, 4, 3, 1, 0."""
    history = Context(
        torch.tensor([0]), torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3])
    )
    return PersonalFrequency(np.array([1, 2, 50, 3, 4])), history


def test_equal_counts_stand_in_the_order_of_popularity(tied: tuple[PersonalFrequency, Context]) -> None:
    model, history = tied
    found = model.retrieve(history, 5)
    assert found.items.tolist() == [[2, 1, 0, 4, 3]]
    assert found.scores[0, :3].tolist() == [1, 1, 1]


def test_seen_items_and_candidates_are_those_of_the_catalogue(tied: tuple[PersonalFrequency, Context]) -> None:
    model, history = tied
    assert model.retrieve(history, 3, exclude_seen=True).items.tolist() == [[4, 3, -1]]
    assert model.retrieve(history, 4, candidates=torch.tensor([0, 3, 2])).items.tolist() == [[2, 0, 3, -1]]
    both = model.retrieve(history, 2, exclude_seen=True, candidates=torch.tensor([0, 3]))
    assert both.items.tolist() == [[3, -1]]
    with pytest.raises(DataError, match="from 0 to 4, but they reach from -1 to 2"):
        model.retrieve(history, 2, candidates=torch.tensor([2, -1]))


def test_decay_prefers_what_is_recent(data: EncodedSplit) -> None:
    found = PersonalFrequency.fit(data, decay=0.5).retrieve(requests(data.events, data.test, np.array([0])), 3)
    assert found.items.tolist() == [[2, 0, 1]]
    assert found.scores[0].tolist() == [1.5, 0.25, 0.125 + 0.0625 + 0.03125]
