"""Is one method better than another on the same users? Paired intervals, paired tests, Holm's correction, effect sizes.

Users are the sample: average a method's values over its seeds first (``mean_over_seeds``), then pair by user. Values
that either method lacks (NaN) leave the comparison. Resampling draws how often each distinct value occurs (a
multinomial or binomial draw) instead of which user is drawn: the same distribution, without users × resamples in
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recascade.errors import DataError

PairedTest = Literal["t", "wilcoxon", "permutation"]

# Draws held at once: 2^22 int64 are 32 MB.
DRAWS_AT_ONCE = 1 << 22


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """How much better the first method is than the second.

    Attributes:
        difference: mean over users of first minus second.
        low: lower bound of its percentile bootstrap interval.
        high: upper bound.
        p_value: of the two-sided paired test, not corrected; see ``holm``.
        effect_size: mean of the differences / their standard deviation (Cohen's d for paired samples); 0 where all are
            0.
        users: number of pairs.
    """

    difference: float
    low: float
    high: float
    p_value: float
    effect_size: float
    users: int


def mean_over_seeds(values: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """float64 ``[E]``: each user's mean over seeds, from one array ``[E]`` per seed, users in the same order; NaN is
    skipped.

    Raises:
        DataError: the seeds were measured on different numbers of users.
    """
    rows = [np.asarray(seed, dtype=np.float64) for seed in values]
    if len({len(row) for row in rows}) != 1:
        raise DataError(
            f"The seeds were measured on {', '.join(str(len(row)) for row in rows)} users; "
            "evaluate all of them on the same ones."
        )
    table = np.stack(rows)
    present = ~np.isnan(table)
    counts = present.sum(axis=0)
    mean: NDArray[np.float64] = np.divide(
        np.where(present, table, 0).sum(axis=0), counts, out=np.full(table.shape[1], np.nan), where=counts > 0
    )
    return mean


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean (Efron, 1979) over users.

    The mean of some thousand bounded values is close to symmetric, where percentile and BCa intervals agree.

    Args:
        values: float ``[E]``, NaN is left out.
        confidence: coverage.
        resamples: bootstrap samples.
        seed: of the draws; equal input gives equal output.
    """
    present = _present(np.asarray(values, dtype=np.float64))
    if not len(present):
        return Interval(float("nan"), float("nan"), float("nan"))
    distinct, counts = np.unique(present, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // len(distinct))
    means = [
        generator.multinomial(len(present), counts / len(present), size=min(at_once, resamples - start)) @ distinct
        for start in range(0, resamples, at_once)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means) / len(present), [tail, 1 - tail])
    return Interval(float(present.mean()), float(low), float(high))


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    *,
    test: PairedTest = "t",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two methods on the same users.

    Args:
        first: float ``[E]``, one value per user.
        second: float ``[E]``, the same users in the same order.
        test: see ``paired_p_value``.
        confidence: coverage of the bootstrap interval of the mean difference.
        resamples: bootstrap samples.
        seed: of the draws.

    Raises:
        DataError: the numbers of users differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise DataError(
            f"The methods were measured on {len(one)} and {len(other)} users; a paired comparison needs the same ones."
        )
    differences = _present(one - other)
    interval = bootstrap_interval(differences, confidence=confidence, resamples=resamples, seed=seed)
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    effect = interval.mean / deviation if deviation > 0 else 0.0
    return PairedComparison(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        p_value=paired_p_value(differences, test=test, seed=seed),
        effect_size=effect,
        users=len(differences),
    )


def paired_p_value(differences: ArrayLike, *, test: PairedTest = "t", resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of "the differences are centred on 0".

    Args:
        differences: float ``[E]``, NaN is left out.
        test: ``t``, Student's paired test, the usual one in information retrieval (Smucker et al., CIKM 2007);
            ``wilcoxon``, signed ranks (zero differences are left out); ``permutation``, random sign flips of the mean
            difference.
        resamples: sign flips; the smallest possible p-value is 1 / (resamples + 1).
        seed: of the sign flips.
    """
    present = _present(np.asarray(differences, dtype=np.float64))
    if not present.any():
        return 1.0
    if len(present) == 1:
        return float("nan")
    if test == "permutation":
        return _sign_flip_p_value(present, resamples, seed)
    # Imported here: scipy.stats takes half a second that only comparisons should pay.
    from scipy import stats

    if test == "t":
        if (present == present[0]).all():
            return 0.0
        return float(stats.ttest_1samp(present, 0.0).pvalue)
    return float(stats.wilcoxon(present, method="approx" if len(present) > 50 else "auto").pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction (1979): float64 ``[M]``, adjusted p-values in the order given; NaN stays and does not
    count."""
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    stepped = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def _sign_flip_p_value(differences: NDArray[np.float64], resamples: int, seed: int) -> float:
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    generator = np.random.default_rng(seed)
    observed = abs(float(differences.sum()))
    # Sums of the same numbers in another order may differ in the last digits; those are ties, not smaller.
    slack = 1e-12 * float(sizes @ counts)
    at_once = max(1, DRAWS_AT_ONCE // len(sizes))
    extreme = 0
    for start in range(0, resamples, at_once):
        positive = generator.binomial(counts, 0.5, size=(min(at_once, resamples - start), len(sizes)))
        extreme += int((np.abs((2 * positive - counts) @ sizes) >= observed - slack).sum())
    return (extreme + 1) / (resamples + 1)


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]
