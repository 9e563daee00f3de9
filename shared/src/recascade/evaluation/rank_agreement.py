"""How far two models agree on the order of the same candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recascade.errors import DataError

# Pairs held at once: 2^22 of int8 and float64 in three arrays are about 100 MB.
_PAIRS_AT_ONCE = 1 << 22


def kendall_tau_per_request(scores_a: ArrayLike, scores_b: ArrayLike) -> NDArray[np.float64]:
    """Kendall's tau-b of two scorings of each request's candidates (Kendall, Biometrika 1945): concordant minus
    discordant pairs, divided by the geometric mean of the pairs that each scoring does not tie.

    Args:
        scores_a: float ``[Q, k]``.
        scores_b: float ``[Q, k]``.

    Returns:
        float64 ``[Q]``; NaN where one of the scorings ties all candidates.

    Raises:
        DataError: the shapes differ, or a score is not a number.
    """
    a, b = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise DataError(
            f"Two scorings of the same candidates are needed, but their shapes are {a.shape} and {b.shape}."
        )
    if np.isnan(a).any() or np.isnan(b).any():
        request = int((np.isnan(a) | np.isnan(b)).any(axis=1).argmax())
        raise DataError(f"A score of request {request} (counted from 0) is not a number, so it has no order.")
    first, second = np.triu_indices(a.shape[1], k=1)
    taus = np.full(len(a), np.nan)
    at_once = max(1, _PAIRS_AT_ONCE // max(1, len(first)))
    for start in range(0, len(a), at_once):
        rows = slice(start, start + at_once)
        order_a = np.sign(a[rows, first] - a[rows, second])
        order_b = np.sign(b[rows, first] - b[rows, second])
        agreement = (order_a * order_b).sum(axis=1)
        untied = np.sqrt(np.abs(order_a).sum(axis=1) * np.abs(order_b).sum(axis=1))
        np.divide(agreement, untied, out=taus[rows], where=untied > 0)
    return taus


def kendall_tau(scores_a: ArrayLike, scores_b: ArrayLike) -> float:
    """The mean of ``kendall_tau_per_request`` over the requests where it is defined; NaN where there is none.

    >>> kendall_tau([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], [[9.0, 5.0, 1.0], [9.0, 5.0, 1.0]])
    0.0
    """
    taus = kendall_tau_per_request(scores_a, scores_b)
    defined = taus[~np.isnan(taus)]
    return float(defined.mean()) if len(defined) else float("nan")
