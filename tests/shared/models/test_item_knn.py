"""Item neighbours by the users they share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recascade.data.encoded import EncodedSplit
from recascade.evaluation.requests import requests
from recascade.models.item_knn import ItemKNN


def test_similarity_by_hand(encoded_split: Callable[..., EncodedSplit]) -> None:
    # Users of the items: 0: {a, b}, 1: {a, b, c}, 2: {c}; the second 0 of user a adds nothing.
    data = encoded_split([[0, 1, 0], [1, 0], [2, 1]], items=4)
    table = ItemKNN.fit(data, neighbours=3, shrinkage=1.0).table.toarray()
    near, far = 2 / (np.sqrt(6) + 1), 1 / (np.sqrt(3) + 1)
    np.testing.assert_allclose(table, [[0, near, 0, 0], [near, 0, far, 0], [0, far, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_only_the_nearest_neighbours_are_kept(encoded_split: Callable[..., EncodedSplit]) -> None:
    generator = np.random.default_rng(0)
    histories = [generator.integers(0, 20, 8).tolist() for _ in range(50)]
    data = encoded_split(histories, items=20)
    whole = ItemKNN.fit(data, neighbours=20).table.toarray()
    kept = ItemKNN.fit(data, neighbours=3).table.toarray()
    assert ((kept > 0).sum(axis=1) <= 3).all()
    assert (kept[kept > 0] == whole[kept > 0]).all()
    left = np.where(kept > 0, 0, whole)
    weakest = np.where(kept > 0, kept, np.inf).min(axis=1)
    assert (left.max(axis=1) <= weakest).all()


def test_a_repeated_item_counts_once(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1], [2, 3], [0, 0, 0, 2]], items=4, test=[[], [], [1]])
    found = ItemKNN.fit(data, shrinkage=0).retrieve(requests(data.events, data.test, np.array([0])), 4)
    scores = dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True))
    assert scores[1] == scores[3] > 0
