"""Click metrics equal their definitions, counted pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recascade.errors import DataError
from recascade.evaluation.click_metrics import auc, click_weighted_gauc, gauc, log_loss


def random_clicks(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Labels, scores with ties, and groups of which some have one class only."""
    generator = np.random.default_rng(seed)
    impressions = int(generator.integers(1, 40))
    labels = generator.random(impressions) < 0.3
    return labels, generator.integers(0, 5, impressions) / 4, generator.integers(0, 4, impressions) * 7


def auc_by_pairs(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    pairs = [(1.0 if p > n else 0.5 if p == n else 0.0) for p in scores[labels] for n in scores[~labels]]
    return sum(pairs) / len(pairs) if pairs else math.nan


@given(seed=st.integers(0, 2**32 - 1))
def test_auc_counts_pairs(seed: int) -> None:
    labels, scores, _ = random_clicks(seed)
    assert auc(labels, scores) == pytest.approx(auc_by_pairs(labels, scores), abs=1e-12, nan_ok=True)


@given(seed=st.integers(0, 2**32 - 1))
def test_gauc_averages_the_groups_that_have_both_classes(seed: int) -> None:
    labels, scores, groups = random_clicks(seed)
    areas, impressions, clicks = [], [], []
    for group in np.unique(groups):
        inside = groups == group
        area = auc_by_pairs(labels[inside], scores[inside])
        if not math.isnan(area):
            areas.append(area)
            impressions.append(int(inside.sum()))
            clicks.append(int(labels[inside].sum()))
    by_impressions = np.average(areas, weights=impressions) if areas else math.nan
    by_clicks = np.average(areas, weights=clicks) if areas else math.nan
    assert gauc(labels, scores, groups) == pytest.approx(by_impressions, abs=1e-12, nan_ok=True)
    assert click_weighted_gauc(labels, scores, groups) == pytest.approx(by_clicks, abs=1e-12, nan_ok=True)


@given(seed=st.integers(0, 2**32 - 1))
def test_auc_depends_on_order_alone_and_turns_over_with_it(seed: int) -> None:
    labels, scores, _ = random_clicks(seed)
    value = auc(labels, scores)
    assert auc(labels, np.exp(scores)) == pytest.approx(value, nan_ok=True)
    assert auc(labels, -scores) == pytest.approx(1 - value, nan_ok=True)


def test_log_loss_by_hand() -> None:
    value = log_loss(np.array([True, False]), np.array([0.8, 0.4]))
    assert value == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2, abs=1e-12)


def test_one_certain_error_stays_finite() -> None:
    assert log_loss(np.array([True]), np.array([0.0])) == pytest.approx(-math.log(1e-7))


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="2 labels but 1 scores"):
        auc(np.array([True, False]), np.array([0.5]))
    with pytest.raises(DataError, match="impression 1"):
        log_loss(np.array([True, False]), np.array([0.5, np.nan]))
