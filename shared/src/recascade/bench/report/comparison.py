"""Paired comparison of configurations: seeds are averaged first, then users are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from recascade.bench.report.formatting import higher_is_better
from recascade.bench.report.record import RunRecord
from recascade.errors import DataError

FloatArray = npt.NDArray[np.float64]
Verdict = Literal["better", "worse", "open"]

ALPHA = 0.05
INTERVAL_WORDS = (
    "Percentile interval of 1000 paired bootstrap resamples of the users, each user's value averaged over seeds first."
)
TEST_WORDS = "Two-sided paired t-test over users, corrected after Holm over all rows of the table."


@dataclass(frozen=True)
class Difference:
    """How far one configuration is from another on one metric.

    Attributes:
        mean: mean over users of (configuration - other), in units of the metric.
        low: lower end of the 95 % paired bootstrap interval of ``mean``.
        high: upper end.
        relative: ``mean`` divided by the other's mean; NaN where that is 0.
        p_value: of the paired test, corrected after Holm over all comparisons of the table.
        verdict: better or worse where ``p_value`` is below 0.05, else open.
    """

    mean: float
    low: float
    high: float
    relative: float
    p_value: float
    verdict: Verdict


@dataclass(frozen=True)
class UserMeans:
    """Per-user values of one configuration, averaged over its seeds; users ascending by id.

    ``users`` string ``[U]``; ``values`` float64 ``[U, M]``; ``metrics`` the M names; ``source`` the first run.
    """

    users: pl.Series
    values: FloatArray
    metrics: tuple[str, ...]
    source: RunRecord


def user_means(runs: Sequence[RunRecord], metrics: Sequence[str]) -> UserMeans:
    """Read the per-user tables of all seeds of one configuration and average them.

    Raises:
        DataError: two seeds were evaluated on different users.
    """
    means = _one_seed(runs[0], metrics)
    total = means.values.copy()
    for run in runs[1:]:
        seed = _one_seed(run, metrics)
        check_same_users(means, seed)
        total += seed.values
    return UserMeans(means.users, total / len(runs), means.metrics, means.source)


def _one_seed(run: RunRecord, metrics: Sequence[str]) -> UserMeans:
    table = run.user_metrics(metrics)
    values = table.select(metrics).to_numpy()
    return UserMeans(table["user_id"], values, tuple(metrics), run)


def check_same_users(one: UserMeans, other: UserMeans) -> None:
    """Pairing needs the same users on both sides.

    Raises:
        DataError: it names both runs and how many users each has.
    """
    if not one.users.equals(other.users):
        raise DataError(
            f"{one.source.path} was evaluated on {len(one.users)} users and {other.source.path} on {len(other.users)}, "
            "and they are not the same users, so the two cannot be paired; evaluate both with the same settings."
        )


def compare(ours: Sequence[UserMeans], base: UserMeans) -> list[dict[str, Difference]]:
    """Each of ``ours`` against ``base`` on every metric, with Holm's correction over ``ours``."""
    from scipy import stats

    rng = np.random.default_rng(0)
    users = len(base.users)
    weights = rng.multinomial(users, np.full(users, 1 / users), size=1000).astype(np.float64) / users
    results: list[dict[str, Difference]] = [{} for _ in ours]
    for column, metric in enumerate(base.metrics):
        ps = np.array([stats.ttest_rel(one.values[:, column], base.values[:, column]).pvalue for one in ours])
        order = np.argsort(ps)
        holm = np.empty_like(ps)
        holm[order] = np.minimum(np.maximum.accumulate(ps[order] * (len(ps) - np.arange(len(ps)))), 1)
        for index, one in enumerate(ours):
            d = one.values[:, column] - base.values[:, column]
            low, high = np.quantile(weights @ d, [0.025, 0.975])
            mean = float(d.mean())
            verdict: Verdict = (
                "open" if holm[index] >= ALPHA else "better" if (mean > 0) == higher_is_better(metric) else "worse"
            )
            results[index][metric] = Difference(
                mean, float(low), float(high), mean / base.values[:, column].mean(), float(holm[index]), verdict
            )
    return results


def p_values(ours, base, metric):
    return [row[metric].p_value for row in compare([o for o in ours], base)]
