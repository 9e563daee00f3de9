"""Metrics of re-ordered lists. Where the field has two definitions there are two functions.

All take the labels in their new order and those of the whole list, because a re-ranker can only move what it was given:
the ideal is the same list, sorted by label. A label above 0 is a click; only NDCG looks at its size. A list without
clicks has the value 0, as in LibRerank.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, did_you_mean
from recascade.evaluation.monitor import split_monitor

Labels = NDArray[np.float32]
Values = NDArray[np.float64]


def ordered_labels(labels: Labels, orders: NDArray[np.int64]) -> Labels:
    """float32 ``[Q, m]``: the labels in the new order, 0 in empty places.

    Args:
        labels: float32 ``[Q, n]``, in the initial order, 0 in padding.
        orders: int64 ``[Q, m]``, places in the initial order, -1 where empty.
    """
    chosen = np.take_along_axis(labels, np.maximum(orders, 0), axis=1)
    return np.where(orders >= 0, chosen, 0).astype(np.float32)


def ndcg(ordered: Labels, labels: Labels, k: int) -> Values:
    """Sum of (2^label - 1) / log2(place + 1) over the first k places, divided by the same of the ideal order (Burges et
    al., ICML 2005; LibRerank's)."""
    ideal = -np.sort(-labels, axis=1)
    return _ratio(_discounted_gain(ordered, k), _discounted_gain(ideal, k))


def found_map(ordered: Labels, labels: Labels, k: int) -> Values:
    """Mean over the clicks among the first k places of the precision down to each (LibRerank's MAP@k: divided by the
    clicks found)."""
    clicks = ordered[:, :k] > 0
    return _ratio(_precision_sum(clicks), clicks.sum(axis=1))


def capped_map(ordered: Labels, labels: Labels, k: int) -> Values:
    """Sum of the precisions at the clicks among the first k places, divided by min(k, clicks of the whole list)
    (ReChorus's MAP@k): the clicks that were not found count as 0."""
    return _ratio(_precision_sum(ordered[:, :k] > 0), np.minimum((labels > 0).sum(axis=1), k))


def recall(ordered: Labels, labels: Labels, k: int) -> Values:
    """Share of the list's clicks that stand among its first k places."""
    return _ratio((ordered[:, :k] > 0).sum(axis=1), (labels > 0).sum(axis=1))


def clicks(ordered: Labels, labels: Labels, k: int) -> Values:
    """Number of clicks among the first k places (LibRerank's click@k)."""
    count: Values = (ordered[:, :k] > 0).sum(axis=1, dtype=np.float64)
    return count


def hit_rate(ordered: Labels, labels: Labels, k: int) -> Values:
    """1 where any of the first k places was clicked, else 0."""
    return np.minimum(clicks(ordered, labels, k), 1.0)


def intra_list_diversity(similarity: NDArray[np.float32], orders: NDArray[np.int64], k: int) -> Values:
    """Mean over the pairs among the first k places of 1 - similarity (Ziegler et al., WWW 2005, over pairs).

    Args:
        similarity: float32 ``[Q, n, n]``, of the candidates in their initial order.
        orders: int64 ``[Q, m]``, places in the initial order, -1 where empty.
        k: places that are looked at.

    Returns:
        float64 ``[Q]``; NaN where fewer than two places are filled.
    """
    top = orders[:, :k]
    held = np.maximum(top, 0)
    among = np.take_along_axis(similarity, held[:, :, None], axis=1)
    among = np.take_along_axis(among, held[:, None, :], axis=2)
    pairs = (top >= 0)[:, :, None] & (top >= 0)[:, None, :] & ~np.eye(top.shape[1], dtype=bool)
    counts = pairs.sum(axis=(1, 2))
    distances = np.where(pairs, 1.0 - among.astype(np.float64), 0.0).sum(axis=(1, 2))
    diversity: Values = np.divide(distances, counts, out=np.full(len(top), np.nan, dtype=np.float64), where=counts > 0)
    return diversity


Metric = Callable[[Labels, Labels, int], Values]

_METRICS: dict[str, Metric] = {
    "ndcg": ndcg,
    "found_map": found_map,
    "capped_map": capped_map,
    "recall": recall,
    "clicks": clicks,
    "hit_rate": hit_rate,
}


def list_metric(name: str) -> Metric:
    """The function behind a name of ``ListEvaluationConfig.metrics``; it takes the labels in their new order
    (``[Q, m]``), those of the whole lists (``[Q, n]``) and k, and gives float64 ``[Q]``."""
    if name not in _METRICS:
        raise ConfigurationError(f"{name!r} is no metric of lists.{did_you_mean(name, _METRICS)}")
    return _METRICS[name]


def parse_list_metric(monitor: str) -> tuple[Metric, int]:
    """``"ndcg@10"`` to the function and 10.

    Raises:
        ConfigurationError: no such metric, or no cutoff.
    """
    name, cutoff = split_monitor(monitor)
    return list_metric(name), cutoff


def _discounted_gain(labels: Labels, k: int) -> Values:
    top = labels[:, :k].astype(np.float64)
    gain: Values = (np.exp2(top) - 1) @ (1 / np.log2(np.arange(2, top.shape[1] + 2)))
    return gain


def _precision_sum(found: NDArray[np.bool_]) -> Values:
    total: Values = (found * found.cumsum(axis=1) / np.arange(1, found.shape[1] + 1)).sum(axis=1)
    return total


def _ratio(values: NDArray[np.float64] | NDArray[np.int64], totals: NDArray[np.float64] | NDArray[np.int64]) -> Values:
    ratio: Values = np.divide(values, totals, out=np.zeros(len(totals)), where=totals > 0)
    return ratio
