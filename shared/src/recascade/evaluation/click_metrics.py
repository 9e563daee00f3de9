"""Metrics of predicted click probabilities against labels. Where the field has two definitions there are two names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recascade.errors import DataError

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]


def auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve: the chance that a random positive stands above a random negative, ties counting half.

    The rank-sum form of Mann and Whitney, 1947. NaN where one of the classes is absent.

    Args:
        labels: bool ``[N]``.
        scores: float ``[N]``, in any monotone scale.
    """
    one_group = np.zeros(len(labels), dtype=np.int64)
    areas, _, _ = _areas(labels, scores, one_group, 1)
    return float(areas[0])


def gauc(labels: Labels, scores: Scores, groups: NDArray[np.int64]) -> float:
    """AUC within each group (a user, a request), averaged with the groups' impressions as weights (Zhu et al., KDD
    2017).

    Groups with one class only have no AUC and are left out; NaN where that leaves none.

    Args:
        labels: bool ``[N]``.
        scores: float ``[N]``.
        groups: int64 ``[N]``, any non-negative numbers.
    """
    return _weighted_gauc(labels, scores, groups, by_clicks=False)


def click_weighted_gauc(labels: Labels, scores: Scores, groups: NDArray[np.int64]) -> float:
    """As ``gauc``, with the groups' clicks as weights (the other choice named in Zhou et al., KDD 2018, DIN)."""
    return _weighted_gauc(labels, scores, groups, by_clicks=True)


def log_loss(labels: Labels, probabilities: Scores, *, clip: float = 1e-7) -> float:
    """Mean negative log-likelihood in nats of Bernoulli labels.

    Args:
        labels: bool ``[N]``.
        probabilities: float ``[N]``; moved into [clip, 1 - clip], because one certain error would make the mean
            infinite.
        clip: that bound.
    """
    _check(labels, probabilities)
    bounded = np.clip(np.asarray(probabilities, dtype=np.float64), clip, 1 - clip)
    return float(-np.where(labels, np.log(bounded), np.log1p(-bounded)).mean()) if len(bounded) else float("nan")


def _weighted_gauc(labels: Labels, scores: Scores, groups: NDArray[np.int64], *, by_clicks: bool) -> float:
    _, codes = np.unique(groups, return_inverse=True)
    areas, positives, sizes = _areas(labels, scores, codes, int(codes.max(initial=-1)) + 1)
    weights = positives if by_clicks else sizes
    defined = ~np.isnan(areas)
    if not defined.any():
        return float("nan")
    return float(np.average(areas[defined], weights=weights[defined]))


def _areas(
    labels: Labels, scores: Scores, groups: NDArray[np.int64], count: int
) -> tuple[Scores, NDArray[np.int64], NDArray[np.int64]]:
    """AUC (NaN where undefined), positives and sizes of groups numbered 0…count-1, all groups at once."""
    _check(labels, scores)
    labels = np.asarray(labels, dtype=np.bool_)
    sizes = np.bincount(groups, minlength=count)
    positives = np.bincount(groups[labels], minlength=count)
    order = np.lexsort((scores, groups))
    sorted_groups, sorted_scores = groups[order], np.asarray(scores)[order]
    # Ranks 1…n within the group; equal scores share their mean rank.
    starts = np.cumsum(sizes) - sizes
    ranks = np.arange(len(order)) - starts[sorted_groups] + 1.0
    new_run = np.ones(len(order), dtype=np.bool_)
    new_run[1:] = (sorted_groups[1:] != sorted_groups[:-1]) | (sorted_scores[1:] != sorted_scores[:-1])
    run = np.cumsum(new_run) - 1
    lengths = np.bincount(run)
    mean_ranks = (np.bincount(run, weights=ranks) / lengths)[run] if len(run) else ranks
    rank_sums = np.bincount(sorted_groups, weights=mean_ranks * labels[order], minlength=count)
    pairs = positives * (sizes - positives)
    above = rank_sums - positives * (positives + 1) / 2
    areas: Scores = np.divide(above, pairs, out=np.full(count, np.nan), where=pairs > 0)
    return areas, positives, sizes


def _check(labels: Labels, scores: Scores) -> None:
    if len(labels) != len(scores):
        raise DataError(f"There are {len(labels)} labels but {len(scores)} scores; each impression needs one of both.")
    if np.isnan(scores).any():
        row = int(np.isnan(scores).argmax())
        raise DataError(f"The score of impression {row} (counted from 0) is not a number, so nothing can be measured.")
