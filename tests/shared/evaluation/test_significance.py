"""Intervals cover, tests hold their level, corrections equal their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recascade.errors import DataError
from recascade.evaluation.significance import (
    bootstrap_interval,
    compare_paired,
    holm,
    mean_over_seeds,
    paired_p_value,
)


def test_bootstrap_equals_resampling_users_one_by_one() -> None:
    generator = np.random.default_rng(0)
    values = generator.exponential(size=300)
    drawn = values[generator.integers(0, 300, (20_000, 300))].mean(axis=1)
    expected = np.quantile(drawn, [0.025, 0.975])
    found = bootstrap_interval(values, resamples=20_000)
    assert found.mean == pytest.approx(values.mean())
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.006)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        interval = bootstrap_interval(generator.binomial(1, 0.3, 400), resamples=400, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.91 <= covered / 300 <= 0.985


def test_equal_input_gives_equal_output_and_another_seed_another_interval() -> None:
    values = np.random.default_rng(2).random(100)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


@pytest.mark.parametrize("test", ["t", "wilcoxon", "permutation"])
def test_no_difference_is_not_significant_and_a_large_one_is(test: str) -> None:
    generator = np.random.default_rng(3)
    one = generator.random(200)
    noise = generator.normal(size=200)
    assert compare_paired(one + 0.05 * noise, one, test=test).p_value > 0.01
    better = compare_paired(one + 0.1 + 0.05 * noise, one, test=test)
    assert better.p_value < 0.001 and better.low > 0.05 and better.effect_size > 1


@pytest.mark.parametrize("test", ["t", "permutation"])
def test_the_level_is_held_where_nothing_differs(test: str) -> None:
    generator = np.random.default_rng(4)
    draws = [paired_p_value(generator.normal(size=40), test=test, resamples=300, seed=i) for i in range(400)]
    assert 0.025 <= np.mean(np.array(draws) < 0.05) <= 0.085


def test_t_and_permutation_agree_with_scipy() -> None:
    generator = np.random.default_rng(5)
    one, other = generator.binomial(1, 0.4, 150).astype(float), generator.binomial(1, 0.3, 150).astype(float)
    assert paired_p_value(one - other) == pytest.approx(stats.ttest_rel(one, other).pvalue, abs=1e-12)
    reference = stats.permutation_test(
        (one, other), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True, rng=0
    ).pvalue
    assert paired_p_value(one - other, test="permutation") == pytest.approx(reference, abs=0.02)


def test_pairs_count_not_means() -> None:
    """Two methods with the same spread over users as between them: only pairing sees the difference."""
    generator = np.random.default_rng(6)
    users = generator.normal(scale=10, size=50)
    comparison = compare_paired(users + 1 + 0.1 * generator.normal(size=50), users)
    assert comparison.p_value < 1e-6
    assert comparison.difference == pytest.approx(1, abs=0.1)


def test_users_that_either_method_lacks_leave_the_comparison() -> None:
    comparison = compare_paired([1.0, np.nan, 3.0, 4.0], [0.0, 1.0, np.nan, 1.0])
    assert comparison.users == 2 and comparison.difference == 2.0


def test_equal_methods() -> None:
    same = compare_paired([0.5, 0.25], [0.5, 0.25])
    assert (same.difference, same.p_value, same.effect_size) == (0, 1, 0)


def test_different_users_are_refused() -> None:
    with pytest.raises(DataError, match="2 and 3 users"):
        compare_paired([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="2, 3 users"):
        mean_over_seeds([[1, 2], [1, 2, 3]])


def test_mean_over_seeds_skips_what_is_missing() -> None:
    nan = float("nan")
    np.testing.assert_array_equal(mean_over_seeds([[1, nan, nan], [3, 4, nan]]), [2, 4, nan])


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.04, 0.01, np.nan, 0.03, 0.9]), [0.09, 0.04, np.nan, 0.09, 0.9])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_the_raw_values_and_bonferronis(values: list[float]) -> None:
    raw = np.array(values)
    adjusted = holm(raw)
    assert (adjusted >= raw).all() and (adjusted <= np.minimum(raw * len(raw), 1)).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
