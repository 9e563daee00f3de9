"""What lists are like apart from being right: coverage, concentration, novelty, diversity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recascade.data.encoded import EncodedSplit
from recascade.data.feature_terms import feature_terms


def summarise(lists: NDArray[np.int32], data: EncodedSplit, cutoffs: list[int]) -> dict[str, float]:
    """``coverage@k``, ``gini@k``, ``novelty@k`` and, with item features, ``intra_list_diversity@k`` for each cutoff."""
    counts = data.item_counts
    terms = None if data.item_features is None else feature_terms(data.item_features)
    result = {}
    for k in cutoffs:
        exposure = exposures(lists[:, :k], len(counts))
        result[f"coverage@{k}"] = coverage(exposure)
        result[f"gini@{k}"] = gini(exposure)
        result[f"novelty@{k}"] = novelty(lists[:, :k], counts)
        if terms is not None and terms.shape[1]:
            result[f"intra_list_diversity@{k}"] = intra_list_diversity(lists[:, :k], terms)
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


def intra_list_diversity(lists: NDArray[np.int32], terms: sparse.csr_matrix) -> float:
    """Mean over lists of the mean over pairs of 1 - cosine of the two items' terms (Ziegler et al., WWW 2005, over
    pairs).

    An item without terms is like no other. Lists of fewer than two items are left out; NaN where that leaves none.

    Args:
        lists: int32 ``[E, K]``, -1 where empty.
        terms: ``[I, terms]``, as of ``feature_terms``.
    """
    squares = np.asarray(terms.multiply(terms).sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(1.0, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
    unit = sparse.diags(scale) @ terms
    rows, places = np.nonzero(lists >= 0)
    sizes = np.bincount(rows, minlength=len(lists)).astype(np.float64)
    listed = lists[rows, places]
    membership = sparse.csr_matrix((np.ones(len(rows)), (rows, listed)), shape=(len(lists), len(squares)))
    sums = membership @ unit
    # The square of a sum of unit vectors holds every ordered pair and each vector with itself.
    itself = membership @ (squares > 0).astype(np.float64)
    pairs = np.asarray(sums.multiply(sums).sum(axis=1)).ravel() - itself
    many = sizes > 1
    if not many.any():
        return float("nan")
    return float((1 - pairs[many] / (sizes[many] * (sizes[many] - 1))).mean())
