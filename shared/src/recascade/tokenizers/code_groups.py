"""Which rows of a code table are equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def code_groups(codes: NDArray[np.integer]) -> NDArray[np.int64]:
    """The group of each row, int64 ``[N]``: equal rows share one, groups are numbered 0… in the order of the codes.

    Args:
        codes: integers ``[N, L]``, none negative; with L = 0 all rows are equal.

    >>> code_groups(np.array([[3, 1], [0, 2], [3, 1]])).tolist()
    [1, 0, 1]
    """
    groups = np.zeros(len(codes), dtype=np.int64)
    # Level by level, each time numbered densely: one number for all levels at once could overflow.
    for level in codes.T:
        combined = groups * (int(level.max(initial=0)) + 1) + level
        groups = np.unique(combined, return_inverse=True)[1].astype(np.int64, copy=False)
    return groups


def place_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier rows are of the same group, int64 ``[N]``.

    >>> place_in_group(np.array([1, 0, 1, 1])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return places
