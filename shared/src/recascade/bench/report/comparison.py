"""Paired comparison of configurations: seeds are averaged first, then users are paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from recascade.bench.report.formatting import higher_is_better
from recascade.bench.report.record import RunRecord
from recascade.errors import DataError
from recascade.evaluation.paired_columns import compare_columns
from recascade.evaluation.significance import holm, mean_over_seeds, paired_p_value

FloatArray = npt.NDArray[np.float64]
Verdict = Literal["better", "worse", "open"]

ALPHA = 0.05
INTERVAL_WORDS = (
    "Percentile interval of the mean difference over 2000 paired bootstrap resamples of the users "
    "(of the lists, where lists are re-ranked), after each one's values were averaged over seeds."
)
TEST_WORDS = "Student's two-sided paired t-test over them, corrected after Holm over the rows of the table."


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
    """Read the per-user tables of all seeds of one configuration and average them; a user's missing seeds are skipped.

    Raises:
        DataError: two seeds were evaluated on different users.
    """
    first, *others = (_one_seed(run, metrics) for run in runs)
    for seed in others:
        check_same_users(first, seed)
    columns = [mean_over_seeds([seed.values[:, column] for seed in (first, *others)]) for column in range(len(metrics))]
    return UserMeans(first.users, np.stack(columns, axis=1), first.metrics, first.source)


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
            f"{one.source.directory} was evaluated on {len(one.users)} users and {other.source.directory} on "
            f"{len(other.users)}, and they are not the same users, so the two cannot be paired; "
            "evaluate both with the same settings."
        )


def compare(ours: Sequence[UserMeans], base: UserMeans) -> list[dict[str, Difference]]:
    """Each of ``ours`` against ``base``: metric → difference. Holm's correction is over ``ours``, metric by metric."""
    if not ours:
        return []
    metrics = base.metrics
    comparisons = compare_columns(np.hstack([one.values for one in ours]), np.tile(base.values, len(ours)))
    by_metric = {metric: comparisons[column :: len(metrics)] for column, metric in enumerate(metrics)}
    results: list[dict[str, Difference]] = [{} for _ in ours]
    for column, metric in enumerate(metrics):
        corrected = holm([comparison.p_value for comparison in by_metric[metric]])
        level = float(np.nanmean(base.values[:, column]))
        for result, comparison, p_value in zip(results, by_metric[metric], corrected, strict=True):
            result[metric] = Difference(
                mean=comparison.difference,
                low=comparison.low,
                high=comparison.high,
                relative=comparison.difference / level if level else float("nan"),
                p_value=float(p_value),
                verdict=_verdict(comparison.difference, float(p_value), metric),
            )
    return results


def p_values(ours: Sequence[UserMeans], base: UserMeans, metric: str) -> list[float]:
    """Of the paired test of each of ``ours`` against ``base`` on one metric, corrected after Holm over ``ours``."""
    column = base.metrics.index(metric)
    differences = [one.values[:, column] - base.values[:, column] for one in ours]
    return [float(value) for value in holm([paired_p_value(difference) for difference in differences])]


def centred(values: Sequence[FloatArray], metrics: Sequence[str]) -> list[dict[str, Difference]]:
    """Per-user values float ``[U, M]`` that are differences already, against 0; corrected as in ``compare``."""
    zeros = [np.zeros_like(one) for one in values]
    comparisons = compare_columns(np.hstack(list(values)), np.hstack(zeros)) if values else []
    found: list[dict[str, Difference]] = [{} for _ in values]
    for column, metric in enumerate(metrics):
        of_metric = comparisons[column :: len(metrics)]
        corrected = holm([comparison.p_value for comparison in of_metric])
        for result, comparison, p_value in zip(found, of_metric, corrected, strict=True):
            verdict = _verdict(comparison.difference, float(p_value), metric)
            result[metric] = Difference(
                comparison.difference, comparison.low, comparison.high, float("nan"), float(p_value), verdict
            )
    return found


def _verdict(difference: float, p_value: float, metric: str) -> Verdict:
    if not p_value < ALPHA:
        return "open"
    return "better" if (difference > 0.0) == higher_is_better(metric) else "worse"
