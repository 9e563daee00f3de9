"""Popularity counts training events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recascade.data.encoded import EncodedSplit
from recascade.evaluation.requests import requests
from recascade.models.popularity import Popularity


def test_counts_stand_as_scores_and_equal_ones_in_vocabulary_order(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[2, 2, 2, 0], [0, 3, 1]], items=5, test=[[4], [4]])
    found = Popularity.fit(data).retrieve(requests(data.events, data.test, np.array([0, 1])), 5)
    assert found.items.tolist() == [[2, 0, 1, 3, 4]] * 2
    assert found.scores.tolist() == [[3, 2, 1, 1, 0]] * 2
