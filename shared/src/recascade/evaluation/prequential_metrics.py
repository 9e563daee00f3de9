"""What a ledger of prequential predictions says: click metrics after a warm-up, over time and for cold rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.errors import DataError
from recascade.evaluation.click_metrics import auc, gauc, log_loss

Array = NDArray[Any]


def summarise(table: pl.DataFrame, *, warm_up: float = 0.5, windows: int = 20, cold: int = 3) -> dict[str, Any]:
    """Click metrics of the events after the warm-up, a curve over all events, and the same metrics by bucket.

    Args:
        table: events in order, as ``PrequentialLedger.table`` gives them; labels of 0.5 or more count as positive.
        warm_up: share of the events, from the start, that only the curve shows.
        windows: stretches of equally many events of the curve.
        cold: a user or an item is cold at an event if at most this many events came before it.

    Returns:
        A dictionary for JSON, where what is undefined (an AUC of one class) is None:

        - ``events``, ``positives_share``, ``auc``, ``gauc`` (by user), ``log_loss`` after the warm-up;
        - ``ranker``: the same of the ranker's probabilities over the events that have one, if there are any;
        - ``windows``: of each stretch ``first`` and ``end`` (events counted from 0), ``events``, ``positives_share``,
          ``auc``, ``log_loss``, and ``ranker_auc``;
        - ``buckets``: by name, after the warm-up: ``cold_users``, ``warm_users``, ``cold_items``, ``warm_items``, and
          ``rare_items``, ``middle_items``, ``popular_items``, terciles of the item's number of events so far.

    Raises:
        DataError: the table is empty, or the warm-up leaves nothing.
    """
    first = math.floor(len(table) * warm_up)
    if not 0 <= warm_up < 1 or first >= len(table):
        raise DataError(f"{len(table)} events with a warm-up of {warm_up} leave nothing to measure.")
    labels = table["label"].to_numpy() >= 0.5
    probabilities = table["probability"].to_numpy()
    users = table["user"].to_numpy()
    measured = np.arange(len(table)) >= first
    summary = _metrics(labels, probabilities, users, measured)
    ranker = _ranker(table)
    if ranker is not None:
        summary["ranker"] = _metrics(labels, ranker, users, measured & ~np.isnan(ranker))
    summary["windows"] = [
        _window(labels, probabilities, ranker, int(rows[0]), int(rows[-1]) + 1)
        for rows in np.array_split(np.arange(len(table)), min(windows, len(table)))
    ]
    summary["buckets"] = {
        name: _metrics(labels, probabilities, users, measured & inside)
        for name, inside in _buckets(users, table["item"].to_numpy(), measured, cold).items()
    }
    return summary


def relative_improvement(value: float, base: float) -> float:
    """RelaImpr of an AUC over that of a base: (value - 0.5) / (base - 0.5) - 1 (Yan et al., ICML 2014).

    >>> round(relative_improvement(0.66, 0.65), 4)
    0.0667
    """
    return (value - 0.5) / (base - 0.5) - 1


def prior_counts(ids: Array) -> NDArray[np.int64]:
    """int64 ``[N]``: how often each element's value stands before it.

    >>> prior_counts(np.array([7, 3, 7, 7])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(ids, kind="stable")
    _, starts, counts = np.unique(ids[order], return_index=True, return_counts=True)
    prior = np.empty(len(ids), dtype=np.int64)
    prior[order] = np.arange(len(ids)) - np.repeat(starts, counts)
    return prior


def _ranker(table: pl.DataFrame) -> Array | None:
    """The ranker's probabilities, NaN where a batch had none; None where no event has one."""
    known = table["ranker_probability"]
    return None if known.is_null().all() else known.fill_null(float("nan")).to_numpy()


def _metrics(labels: Array, probabilities: Array, users: Array, chosen: Array) -> dict[str, Any]:
    labels, probabilities, users = labels[chosen], probabilities[chosen], users[chosen]
    return {
        "events": len(labels),
        "positives_share": float(labels.mean()) if len(labels) else None,
        "auc": _defined(auc(labels, probabilities)),
        "gauc": _defined(gauc(labels, probabilities, users)),
        "log_loss": _defined(log_loss(labels, probabilities)),
    }


def _window(labels: Array, probabilities: Array, ranker: Array | None, first: int, end: int) -> dict[str, Any]:
    inside = slice(first, end)
    window = {
        "first": first,
        "end": end,
        "events": end - first,
        "positives_share": float(labels[inside].mean()),
        "auc": _defined(auc(labels[inside], probabilities[inside])),
        "log_loss": _defined(log_loss(labels[inside], probabilities[inside])),
    }
    if ranker is not None:
        known = ~np.isnan(ranker[inside])
        window["ranker_auc"] = _defined(auc(labels[inside][known], ranker[inside][known]))
    return window


def _buckets(users: Array, items: Array, measured: Array, cold: int) -> dict[str, Array]:
    user_events, item_events = prior_counts(users), prior_counts(items)
    low, high = np.quantile(item_events[measured], [1 / 3, 2 / 3])
    return {
        "cold_users": user_events <= cold,
        "warm_users": user_events > cold,
        "cold_items": item_events <= cold,
        "warm_items": item_events > cold,
        "rare_items": item_events <= low,
        "middle_items": (item_events > low) & (item_events <= high),
        "popular_items": item_events > high,
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
