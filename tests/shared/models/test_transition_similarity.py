"""Rings of the transition graph, ordered by content."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.requests import requests
from recascade.models.item_content import content_vectors
from recascade.models.transition_similarity import TransitionSimilarity


def chain(make: Callable[..., EncodedSplit]) -> EncodedSplit:
    """0 → 1…9 (nine items), 1 → 10, 11, 12; 10 → 13, 14; the request stands at 0."""
    histories = [[0, item] for item in range(1, 10)] + [[1, item] for item in (10, 11, 12)]
    histories += [[10, 13], [10, 14], [15, 0]]
    return make(histories, items=16, test=[[]] * 14 + [[1]])


def test_places_go_to_rings_in_the_order_of_the_plan(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = chain(encoded_split)
    model = TransitionSimilarity.fit(data)
    found = model.retrieve(requests(data.events, data.test, np.array([0])), 14).items[0].tolist()
    assert set(found[:7]) < set(range(1, 10))
    assert set(found[7:9]) < {10, 11, 12}
    assert set(found[9:10]) < {13, 14}
    assert set(found[10:12]) == set(range(1, 10)) - set(found[:7])
    assert {found[12], found[13]} == ({10, 11, 12} - set(found[7:9])) | ({13, 14} - set(found[9:10]))


def test_two_sources_share_the_list(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1], [0, 2], [3, 4], [3, 5], [6, 3, 0]], items=8, test=[[]] * 4 + [[1]])
    found = TransitionSimilarity.fit(data, sources="last-two").retrieve(
        requests(data.events, data.test, np.array([0])), 4
    )
    assert set(found.items[0, :2].tolist()) == {1, 2}
    assert set(found.items[0, 2:].tolist()) <= {0, 4, 5}


def test_within_a_ring_the_likest_item_comes_first(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1], [0, 2], [0, 3], [4, 0]], items=5, test=[[]] * 3 + [[1]])
    texts = ["red shampoo", "blue bicycle", "red Shampoo!", "shampoo", None]
    found = TransitionSimilarity.fit(data, texts).retrieve(requests(data.events, data.test, np.array([0])), 3)
    assert found.items[0].tolist() == [2, 3, 1]


def test_transition_counts_outweigh_likeness_as_far_as_told(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 1]] * 5 + [[0, 2], [3, 0]], items=4, test=[[]] * 6 + [[1]])
    texts = ["red", "blue green", "red green", None]
    context = requests(data.events, data.test, np.array([0]))

    def first(edge_weight: float) -> int:
        return int(TransitionSimilarity.fit(data, texts, edge_weight=edge_weight).retrieve(context, 1).items[0, 0])

    assert first(0.0) == 2 and first(5.0) == 1


def test_vectors_are_scaled_tf_idf(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0]], items=3)
    vectors = content_vectors(data, ["a a b", "b", None]).toarray()
    rare, common = np.log(4 / 2) + 1, np.log(4 / 3) + 1
    expected = np.array([2 * rare, common]) / np.hypot(2 * rare, common)
    np.testing.assert_allclose(np.sort(vectors[0])[::-1][:2], expected, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0], rtol=1e-6)


def test_rings_hold_the_fewest_steps(encoded_split: Callable[..., EncodedSplit]) -> None:
    """1 is reached from 0 in one step and, through 2, in two: it stands in the first ring only; 0 itself in none."""
    transitions = sparse.csr_matrix(
        np.array([[0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
    )
    nothing = sparse.csr_matrix((4, 0), dtype=np.float32)
    model = TransitionSimilarity(transitions, nothing, np.array([9, 0, 0, 0]))
    history = Context(*(pl.Series(x).to_torch() for x in ([0], [0], [0])), pl.Series([0, 1]).to_torch())
    assert model.retrieve(history, 4).items.tolist() == [[1, 2, 3, 0]]


def test_bad_input_is_named(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0]], items=3)
    with pytest.raises(ConfigurationError, match="Did you mean 'last-two'"):
        TransitionSimilarity.fit(data, sources="last_two")
    with pytest.raises(DataError, match="2 texts for 3 items"):
        TransitionSimilarity.fit(data, ["a", "b"])
