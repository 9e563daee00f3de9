"""Coverage, concentration, novelty and diversity keep to their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recascade.data.encoded import EncodedSplit
from recascade.data.feature_terms import feature_terms
from recascade.data.features import FeatureTable, MultiValued
from recascade.evaluation.beyond_accuracy import coverage, exposures, gini, intra_list_diversity, novelty, summarise


def test_exposure_and_coverage_leave_empty_places_out() -> None:
    exposure = exposures(np.array([[0, 2], [2, -1]], dtype=np.int32), 4)
    assert exposure.tolist() == [1, 0, 2, 0]
    assert coverage(exposure) == 0.5


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_relative_mean_difference(values: list[int]) -> None:
    exposure = np.array(values)
    differences = np.abs(exposure[:, None] - exposure[None, :]).mean()
    assert gini(exposure) == pytest.approx(differences / (2 * exposure.mean()), abs=1e-12)


def test_gini_of_equal_and_of_one() -> None:
    assert gini(np.array([3, 3, 3])) == 0
    assert gini(np.array([0, 0, 0, 9])) == 0.75
    assert np.isnan(gini(np.zeros(3, dtype=np.int64)))


def test_novelty_is_the_mean_self_information() -> None:
    counts = np.array([4, 2, 2, 0])
    assert novelty(np.array([[0, 1, -1]], dtype=np.int32), counts) == pytest.approx((1 + 2) / 2)
    assert novelty(np.array([[3]], dtype=np.int32), counts) == pytest.approx(3)


@given(seed=st.integers(0, 2**32 - 1))
def test_diversity_equals_pair_by_pair(seed: int) -> None:
    generator = np.random.default_rng(seed)
    terms = generator.integers(0, 2, (10, 5)).astype(np.float32)
    lists = np.stack([generator.permutation(10)[:4] for _ in range(5)]).astype(np.int32)
    lists[0, generator.integers(0, 5) :] = -1
    expected = []
    for row in lists:
        shown = row[row >= 0]
        if len(shown) < 2:
            continue
        norms = np.linalg.norm(terms[shown], axis=1)
        cosine = terms[shown] @ terms[shown].T / np.maximum(np.outer(norms, norms), 1e-30)
        pairs = ~np.eye(len(shown), dtype=bool)
        expected.append(1 - cosine[pairs].mean())
    found = intra_list_diversity(lists, sparse.csr_matrix(terms))
    assert found == pytest.approx(np.mean(expected), abs=1e-6)


def test_features_become_terms_and_unknown_values_none() -> None:
    features = FeatureTable(
        categorical=np.array([[1], [0], [2]], dtype=np.int32),
        categorical_names=("brand",),
        cardinalities=(3,),
        numeric=np.zeros((3, 0), dtype=np.float32),
        numeric_names=(),
        multi_valued=(MultiValued("categories", 3, np.array([1, 2, 2], dtype=np.int32), np.array([0, 2, 2, 3])),),
    )
    assert feature_terms(features).toarray().tolist() == [[0, 1, 0, 0, 1, 1], [0] * 6, [0, 0, 1, 0, 0, 1]]


def test_summaries_name_the_cutoff(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0, 0, 1]], items=4, test=[[2]])
    lists = np.array([[0, 1, 2]], dtype=np.int32)
    summary = summarise(lists, data, [1, 3])
    assert summary["coverage@1"] == 0.25 and summary["coverage@3"] == 0.75
    assert "intra_list_diversity@1" not in summary
