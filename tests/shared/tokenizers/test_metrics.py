from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.tokenizers.metrics import code_metrics, level_usage, reconstruction_error


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=50))
def test_bounds_and_identities_of_the_figures(rows: list[tuple[int, int]]) -> None:
    codes = np.array(rows)
    metrics = code_metrics(codes, (4, 3))
    assert metrics.compression_ratio >= 1
    assert metrics.shared_id_rate <= metrics.compression_ratio - 1 + 1e-12
    assert metrics.utilisation == len(set(rows)) / 12
    assert metrics.lost_item_rate == pytest.approx(1 - 1 / metrics.compression_ratio)
    assert metrics.largest_id == max(rows.count(row) for row in rows)
    for level, usage in enumerate(level_usage(codes, (4, 3))):
        assert usage.counts.sum() == len(rows)
        assert usage.used == len(set(codes[:, level])) / len(usage.counts)
        assert -1e-12 <= usage.evenness <= 1 + 1e-12


def test_the_two_collision_rates_differ() -> None:
    # Ids 0 (three items), 1 and 2: two of three ids are one-to-one; five items, three ids.
    metrics = code_metrics(np.array([[0], [0], [0], [1], [2]]), (8,))
    assert metrics.shared_id_rate == pytest.approx(1 / 3)
    assert metrics.lost_item_rate == pytest.approx(2 / 5)
    assert metrics.compression_ratio == pytest.approx(5 / 3)
    assert metrics.utilisation == pytest.approx(3 / 8)


def test_entropy_of_known_usage() -> None:
    (even,) = level_usage(np.array([[0], [1], [2], [3]]), (4,))
    (half,) = level_usage(np.array([[0], [0], [1], [1]]), (4,))
    (one,) = level_usage(np.array([[0], [0]]), (1,))
    assert (even.entropy, even.evenness) == (2, 1)
    assert (half.entropy, half.evenness) == (1, 0.5)
    assert one.evenness == 1


def test_error_is_relative_to_the_variance() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32) + 100
    assert reconstruction_error(vectors, vectors) == 0
    assert reconstruction_error(vectors, np.tile(vectors.mean(axis=0), (50, 1))) == pytest.approx(1, abs=1e-5)
    assert reconstruction_error(vectors[:1], vectors[:1]) == 0
