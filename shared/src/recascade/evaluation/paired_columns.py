"""Many paired comparisons on the same users at once: all columns see the same resamples, which are drawn once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recascade.errors import DataError
from recascade.evaluation.significance import PairedComparison, paired_p_value

# Draws held at once: 2^22 int64 are 32 MB.
DRAWS_AT_ONCE = 1 << 22


def compare_columns(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[PairedComparison]:
    """What ``significance.compare_paired`` says of each column, with Student's paired test.

    Args:
        first: float ``[E, C]``, one row per user; C metrics, methods, or both.
        second: float ``[E, C]``, the same users in the same order. A user for whom either side is NaN leaves the
            column.
        confidence: coverage of the percentile bootstrap intervals of the mean differences.
        resamples: bootstrap samples, shared by all columns.
        seed: of the draws.

    Raises:
        DataError: the shapes differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise DataError(
            f"The tables to compare have the shapes {one.shape} and {other.shape}; "
            "a paired comparison needs the same users."
        )
    differences = one - other
    low, high = bootstrap_intervals(differences, confidence=confidence, resamples=resamples, seed=seed)
    comparisons = []
    for column, values in enumerate(differences.T):
        present = values[~np.isnan(values)]
        mean = float(present.mean()) if len(present) else float("nan")
        deviation = float(present.std(ddof=1)) if len(present) > 1 else 0.0
        comparisons.append(
            PairedComparison(
                difference=mean,
                low=float(low[column]),
                high=float(high[column]),
                p_value=paired_p_value(present),
                effect_size=mean / deviation if deviation > 0 else 0.0,
                users=len(present),
            )
        )
    return comparisons


def bootstrap_intervals(
    values: NDArray[np.float64], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends, float64 ``[C]`` each, of the percentile bootstrap intervals (Efron, 1979) of column means.

    Args:
        values: float64 ``[E, C]``; NaN is left out of its column, and a column without values gives NaN.
        confidence: coverage.
        resamples: bootstrap samples of the E users.
        seed: of the draws.
    """
    users, columns = values.shape
    if not users or not columns:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    missing = np.isnan(values)
    filled = np.where(missing, 0.0, values)
    present = (~missing).astype(np.float64)
    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // users)
    means = []
    for start in range(0, resamples, at_once):
        samples = min(at_once, resamples - start)
        drawn = generator.integers(0, users, size=(samples, users))
        drawn += np.arange(samples)[:, None] * users
        counts = np.bincount(drawn.ravel(), minlength=samples * users).reshape(samples, users).astype(np.float64)
        size = counts @ present if missing.any() else np.full((samples, columns), float(users))
        means.append(np.divide(counts @ filled, size, out=np.full((samples, columns), np.nan), where=size > 0))
    sampled = np.concatenate(means)
    tail = (1 - confidence) / 2
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    known = present.any(axis=0)
    low[known], high[known] = np.nanquantile(sampled[:, known], [tail, 1 - tail], axis=0)
    return low, high
