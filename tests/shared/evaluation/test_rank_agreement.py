"""Kendall's tau equals SciPy's, and depends on order alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from recascade.errors import DataError
from recascade.evaluation import rank_agreement
from recascade.evaluation.rank_agreement import kendall_tau, kendall_tau_per_request


def scores(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two scorings with ties."""
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 5)), int(random.integers(2, 9)))
    return random.integers(0, 5, shape) / 4, random.integers(0, 5, shape) / 4


@given(seed=st.integers(0, 2**32 - 1))
def test_it_equals_scipys(seed: int) -> None:
    a, b = scores(seed)
    expected = [kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(kendall_tau_per_request(a, b), expected, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_it_depends_on_order_alone(seed: int) -> None:
    a, b = scores(seed)
    taus = kendall_tau_per_request(a, b)
    np.testing.assert_array_equal(kendall_tau_per_request(b, a), taus)
    np.testing.assert_array_equal(kendall_tau_per_request(np.exp(a), 7 * b - 1), taus)
    np.testing.assert_array_equal(kendall_tau_per_request(-a, b), -taus)
    shuffled = np.random.default_rng(seed).permutation(a.shape[1])
    np.testing.assert_allclose(kendall_tau_per_request(a[:, shuffled], b[:, shuffled]), taus)


def test_requests_taken_together_or_in_pieces_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    a, b = random.random((23, 12)), random.random((23, 12))
    whole = kendall_tau_per_request(a, b)
    monkeypatch.setattr(rank_agreement, "_PAIRS_AT_ONCE", 100)
    np.testing.assert_array_equal(kendall_tau_per_request(a, b), whole)


def test_the_mean_leaves_out_requests_without_an_order() -> None:
    a = [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [3.0, 2.0, 1.0]]
    b = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
    assert kendall_tau(a, b) == 1
    assert np.isnan(kendall_tau(a[1:2], b[1:2]))
    assert np.isnan(kendall_tau([[1.0]], [[1.0]]))


def test_what_has_no_order_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(1, 2\) and \(1, 3\)"):
        kendall_tau([[1.0, 2.0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match="request 1 "):
        kendall_tau([[1.0, 2.0], [1.0, float("nan")]], [[1.0, 2.0], [1.0, 2.0]])
