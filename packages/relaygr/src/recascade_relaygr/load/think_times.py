"""How often and after how long users come back, as their log tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ThinkTimes(NamedTuple):
    """Of the sessions in a log.

    Attributes:
        share: of visits that another one follows within the session.
        gaps: float64 ``[G]``, seconds from a visit to the next one of its session.
    """

    share: float
    gaps: npt.NDArray[np.float64]


def think_times(timestamps: Iterable[npt.NDArray[np.int64]], session_seconds: float) -> ThinkTimes:
    """Events of a user in the same second are one visit, as the items of a basket are.

    Args:
        timestamps: of each user, int64 ``[n]``, seconds, ascending.
        session_seconds: a longer gap ends a session.
    """
    visits = 0
    within: list[npt.NDArray[np.int64]] = []
    for times in timestamps:
        gaps = np.diff(times)
        gaps = gaps[gaps > 0]
        visits += len(gaps) + (len(times) > 0)
        within.append(gaps[gaps <= session_seconds])
    gaps = np.concatenate([*within, np.empty(0, np.int64)])
    return ThinkTimes(len(gaps) / visits if visits else 0.0, gaps.astype(np.float64))
