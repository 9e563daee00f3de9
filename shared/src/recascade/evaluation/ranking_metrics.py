"""Metrics of a ranked list against a set of targets: one value per user, in float64.

Every function takes ``hits`` bool ``[E, K]`` (place j of user e's list holds a target; a target appears at most once),
``targets`` int ``[E]`` (how many targets the user has, those that can never be recommended included) and the cutoff
``k ≤ K``. A user without targets gets NaN. Where the field has two definitions there are two functions with two names.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, did_you_mean

Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def hit_rate(hits: Hits, targets: Counts, k: int) -> Values:
    """1 where any of the first k places holds a target (trec: Success@k)."""
    return _defined((_found(hits, k) > 0).astype(np.float64), targets)


def recall(hits: Hits, targets: Counts, k: int) -> Values:
    """Found targets / all targets. Cannot reach 1 where a user has more than k targets (trec: R@k)."""
    return _ratio(_found(hits, k), targets)


def capped_recall(hits: Hits, targets: Counts, k: int) -> Values:
    """Found targets / min(k, all targets): 1 is always within reach (also called truncated or R-capped recall)."""
    return _ratio(_found(hits, k), np.minimum(targets, k))


def precision(hits: Hits, targets: Counts, k: int) -> Values:
    """Found targets / k, also where the list is shorter than k (trec: P@k)."""
    return _defined(_found(hits, k) / k, targets)


def ndcg(hits: Hits, targets: Counts, k: int) -> Values:
    """Gain 1 / log2(place + 1), divided by the gain of the best possible list: min(k, targets) hits on top (trec:
    nDCG@k).

    Järvelin and Kekäläinen, 2002, with binary gains and their log2 discount from place 1 on.
    """
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(k))])
    return _ratio(_gain(hits, k), ideal[np.minimum(targets, k)])


def full_list_ndcg(hits: Hits, targets: Counts, k: int) -> Values:
    """The gain of ``ndcg`` divided by that of k hits, even where a user has fewer targets than k.

    The default of RecTools 0.19: with one target and k = 10 its best value is 0.22. Here for comparisons with it.
    """
    return _defined(_gain(hits, k) / _discounts(k).sum(), targets)


def mrr(hits: Hits, targets: Counts, k: int) -> Values:
    """1 / place of the first target, 0 where none is among the first k (trec: RR@k)."""
    top = hits[:, :k]
    first = np.where(top.any(axis=1), 1.0 / (top.argmax(axis=1) + 1), 0.0)
    return _defined(first, targets)


def map_all_targets(hits: Hits, targets: Counts, k: int) -> Values:
    """Sum of the precisions at the places of the hits / all targets (trec: AP@k). Named ``map``."""
    return _ratio(_precision_sum(hits, k), targets)


def capped_map(hits: Hits, targets: Counts, k: int) -> Values:
    """Sum of the precisions at the places of the hits / min(k, targets): 1 is always within reach (Kaggle's MAP@k)."""
    return _ratio(_precision_sum(hits, k), np.minimum(targets, k))


_METRICS: dict[str, Callable[[Hits, Counts, int], Values]] = {
    "hit_rate": hit_rate,
    "recall": recall,
    "capped_recall": capped_recall,
    "precision": precision,
    "ndcg": ndcg,
    "full_list_ndcg": full_list_ndcg,
    "mrr": mrr,
    "map": map_all_targets,
    "capped_map": capped_map,
}


def ranking_metric(name: str) -> Callable[[Hits, Counts, int], Values]:
    """The function behind a name of ``EvaluationConfig.metrics``."""
    if name not in _METRICS:
        raise ConfigurationError(f"{name!r} is no ranking metric.{did_you_mean(name, _METRICS)}")
    return _METRICS[name]


def _found(hits: Hits, k: int) -> Values:
    found: Values = hits[:, :k].sum(axis=1, dtype=np.float64)
    return found


def _discounts(k: int) -> Values:
    return 1.0 / np.log2(np.arange(2, k + 2, dtype=np.float64))


def _gain(hits: Hits, k: int) -> Values:
    top = hits[:, :k]
    gain: Values = top.astype(np.float64) @ _discounts(top.shape[1])
    return gain


def _precision_sum(hits: Hits, k: int) -> Values:
    top = hits[:, :k].astype(np.float64)
    total: Values = (top * top.cumsum(axis=1) / np.arange(1, top.shape[1] + 1)).sum(axis=1)
    return total


def _ratio(values: Values, denominators: NDArray[np.float64] | Counts) -> Values:
    ratio: Values = np.divide(values, denominators, out=np.full(len(values), np.nan), where=denominators > 0)
    return ratio


def _defined(values: Values, targets: Counts) -> Values:
    return np.where(targets > 0, values, np.nan)
