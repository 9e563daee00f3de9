"""From events and replacements to regenerated rows: what is dropped, what is collapsed, where each item comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORIGINAL, REPLACED, INSERTED = 0, 1, 2
ORIGINS = ("original", "replaced", "inserted")


@dataclass(frozen=True)
class Candidates:
    """N events that may enter rows, in order.

    Attributes:
        users: int64 ``[N]``, ascending.
        items: int64 ``[N]``.
        timestamps: int64 ``[N]``, seconds.
        origins: int8 ``[N]``, place in ``ORIGINS``.
        sources: int64 ``[N]``, the item that stood here before, or -1.
        scores: float32 ``[N]``, by which it was chosen; NaN where there is none.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    origins: NDArray[np.int8]
    sources: NDArray[np.int64]
    scores: NDArray[np.float32]

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Candidates:
        """Some of the events (bool ``[N]``, or their places in the new order)."""
        return Candidates(
            self.users[chosen],
            self.items[chosen],
            self.timestamps[chosen],
            self.origins[chosen],
            self.sources[chosen],
            self.scores[chosen],
        )


def regenerated_rows(candidates: Candidates, *, drop_unchanged: bool, shortest: int) -> Candidates:
    """Collapse runs of one item, then leave out rows that are too short or that say nothing new.

    Of a run the first original event stays, or else the first one, so that an original item never counts as made up.

    Args:
        candidates: all that may stand in the rows.
        drop_unchanged: leave out rows that equal the user's original events.
        shortest: events that a row needs.
    """
    users, items, origins = candidates.users, candidates.items, candidates.origins
    if not len(users):
        return candidates
    new_run = np.ones(len(users), dtype=np.bool_)
    new_run[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    runs = np.cumsum(new_run) - 1
    # Within a run originals come first; the sort is stable and runs stay in order.
    order = np.lexsort((origins != ORIGINAL, runs))
    kept = order[np.flatnonzero(np.diff(runs[order], prepend=-1))]
    rows = candidates.take(kept)
    row_of, lengths = np.unique(rows.users, return_inverse=True, return_counts=True)[1:]
    enough = lengths >= shortest
    if drop_unchanged:
        made = np.zeros(len(lengths), dtype=np.bool_)
        made[row_of[rows.origins != ORIGINAL]] = True
        before = np.bincount(users[origins == ORIGINAL], minlength=int(users[-1]) + 1)[np.unique(users)]
        enough &= made | (before != lengths)
    return rows.take(enough[row_of])
