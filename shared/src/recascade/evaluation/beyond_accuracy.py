"""What lists are like apart from being right: coverage, concentration, novelty, diversity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recascade.data.encoded import EncodedSplit
from recascade.evaluation.groups import training_counts


def summarise(lists: NDArray[np.int32], data: EncodedSplit, cutoffs: list[int]) -> dict[str, float]:
    """``coverage@k``, ``gini@k``, ``novelty@k`` for each cutoff."""
    counts = training_counts(data)
    result = {}
    for k in cutoffs:
        exposure = exposures(lists[:, :k], len(counts))
        result[f"coverage@{k}"] = coverage(exposure)
        result[f"gini@{k}"] = gini(exposure)
        result[f"novelty@{k}"] = novelty(lists[:, :k], counts)
    return result


def exposures(lists: NDArray[np.int32], items: int) -> NDArray[np.int64]:
    """int64 ``[I]``, how many lists hold each item; empty places (-1) count nowhere."""
    return np.bincount(lists[lists >= 0], minlength=items).astype(np.int64)


def coverage(exposure: NDArray[np.int64]) -> float:
    """Share of the catalogue that stands in at least one list."""
    return float((exposure > 0).mean())


def gini(exposure: NDArray[np.int64]) -> float:
    """Gini coefficient of exposure over the whole catalogue: 0 where all items are shown alike, (I - 1) / I where one
    gets all.

    The usual sample formula, sum of (2 i - I - 1) x_(i) over I times the total, without small-sample correction.
    """
    ordered = np.sort(exposure).astype(np.float64)
    total = ordered.sum()
    if total == 0:
        return float("nan")
    items = len(ordered)
    weights = 2 * np.arange(1, items + 1) - items - 1
    return float(weights @ ordered / (items * total))


def novelty(lists: NDArray[np.int32], counts: NDArray[np.int64]) -> float:
    """Mean self-information of the recommended items in bits, -log2 of the item's share of the training events.

    Zhou et al., PNAS 2010, with shares of events instead of users; an item without events counts as if it had one (our
    choice).
    """
    shown = lists[lists >= 0]
    if not len(shown):
        return float("nan")
    share = np.maximum(counts, 1) / max(int(counts.sum()), 1)
    return float(-np.log2(share)[shown].mean())
