from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.errors import DataError
from recascade.evaluation.paired_columns import bootstrap_intervals, compare_columns
from recascade.evaluation.significance import bootstrap_interval, compare_paired


def tables(users: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    second = generator.random((users, columns))
    return second + generator.normal(0.02, 0.1, (users, columns)), second


def test_each_column_says_what_a_comparison_of_its_own_says() -> None:
    first, second = tables(500, 4, seed=1)
    first[::7, 2] = np.nan
    for column, found in enumerate(compare_columns(first, second)):
        alone = compare_paired(first[:, column], second[:, column])
        assert found.difference == pytest.approx(alone.difference, abs=1e-12)
        assert found.p_value == pytest.approx(alone.p_value, rel=1e-9)
        assert found.effect_size == pytest.approx(alone.effect_size, rel=1e-9)
        assert found.users == alone.users
        width = alone.high - alone.low
        assert found.low == pytest.approx(alone.low, abs=0.1 * width), "other draws of the same distribution"
        assert found.high == pytest.approx(alone.high, abs=0.1 * width)


def test_intervals_do_not_depend_on_the_other_columns() -> None:
    first, second = tables(200, 5, seed=2)
    values = first - second
    low, high = bootstrap_intervals(values)
    low_alone, high_alone = bootstrap_intervals(values[:, 3:4])
    assert (low[3], high[3]) == pytest.approx((low_alone[0], high_alone[0]), abs=1e-15)


def test_intervals_shift_and_scale_with_the_values() -> None:
    values = np.random.default_rng(3).random((300, 2))
    low, high = bootstrap_intervals(values)
    moved_low, moved_high = bootstrap_intervals(2.0 * values + 1.0)
    np.testing.assert_allclose(moved_low, 2.0 * low + 1.0, atol=1e-12)
    np.testing.assert_allclose(moved_high, 2.0 * high + 1.0, atol=1e-12)


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(4)
    low, high = bootstrap_intervals(generator.exponential(1.0, (150, 600)), resamples=500)
    covered = ((low <= 1.0) & (high >= 1.0)).mean()
    assert 0.90 <= covered <= 0.98


def test_draws_in_pieces_are_as_good_as_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random((400, 1))
    monkeypatch.setattr("recascade.evaluation.paired_columns.DRAWS_AT_ONCE", 1000)
    low, high = bootstrap_intervals(values)
    alone = bootstrap_interval(values[:, 0])
    assert (low[0], high[0]) == pytest.approx((alone.low, alone.high), abs=0.1 * (alone.high - alone.low))


def test_column_without_values_is_not_a_number_and_others_are_untouched() -> None:
    values = np.random.default_rng(6).random((50, 2))
    values[:, 0] = np.nan
    low, high = bootstrap_intervals(values)
    assert np.isnan(low[0]) and np.isnan(high[0])
    assert low[1] < values[:, 1].mean() < high[1]
    assert bootstrap_intervals(np.zeros((0, 3)))[0].shape == (3,)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000))
def test_interval_lies_within_the_range_of_the_values(users: int, columns: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(users, columns))
    low, high = bootstrap_intervals(values, resamples=50, seed=seed)
    assert (values.min(axis=0) - 1e-12 <= low).all()
    assert (low <= high).all()
    assert (high <= values.max(axis=0) + 1e-12).all()


def test_tables_of_different_shape_are_refused() -> None:
    with pytest.raises(DataError, match="same users"):
        compare_columns(np.zeros((3, 2)), np.zeros((4, 2)))
