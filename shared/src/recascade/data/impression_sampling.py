"""Impressions without a click, sampled for logs that hold positives only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recascade.data.hashing import mix

# Draws that hit one of the user's positives of the same second are drawn again, this often at most.
_ATTEMPTS = 16


class ImpressionSampler:
    """Draws items for each positive among the items whose first event lies in an earlier second.

    An item with c events so far is drawn with a probability proportional to c^exponent. Its r-th event carries the
    weight r^exponent - (r-1)^exponent, which add up to that; so one running sum over the events serves every moment.
    It is kept in memory: 16 bytes an event.

    A positive whose item had no event in an earlier second could never have been drawn, so that "nobody had this item
    before" would tell its label. It is to be left out of what is learnt: both labels then have the same candidates. It
    still counts as an event of its item.

    Attributes:
        left_out: impressions that were not drawn, because no other item had been seen by then.
        new_items: positives to leave out, because their item had not been seen by then.
    """

    def __init__(self, per_positive: int, exponent: float, seed: int) -> None:
        """Start before the first event.

        Args:
            per_positive: impressions to draw for each positive.
            exponent: 0 or more; 0 draws uniformly, 1 in proportion to the events so far.
            seed: another seed gives unrelated draws.
        """
        self._per_positive = per_positive
        self._exponent = exponent
        self._seed = mix(np.array([seed % 2**64], dtype=np.uint64))
        self._items = np.zeros(0, dtype=np.int64)
        self._weights = np.zeros(0)
        self._counts = np.zeros(0, dtype=np.int64)
        self.left_out = 0
        self.new_items = 0

    def sample(
        self, users: NDArray[np.int64], items: NDArray[np.int64], timestamps: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Draw for the next positives of the stream.

        Args:
            users: int64 ``[n]``.
            items: int64 ``[n]``.
            timestamps: int64 ``[n]``, ascending; all positives of one second come in one call.

        Returns:
            bool ``[n]``: the positives to learn from, whose items were seen in an earlier second. int64 ``[m]`` twice:
            the row of such a positive (0…n-1) and the item drawn for it, never one that its user has a positive for in
            that second. m is ``per_positive`` for each of them less what was left out.
        """
        before = len(self._items)
        seen = self._seen(items, timestamps)
        self._append(items)
        new_second = np.ones(len(items), dtype=np.bool_)
        new_second[1:] = timestamps[1:] != timestamps[:-1]
        second = np.cumsum(new_second) - 1
        known = before + np.flatnonzero(new_second)[second]  # events before the second of each positive
        visit = np.unique(second * (users.max(initial=0) + 1) + users, return_inverse=True)[1]
        taken = np.unique(visit * len(self._counts) + items)

        rows = np.repeat(np.arange(len(items)), self._per_positive)
        counters = (before * self._per_positive + np.arange(len(rows))).astype(np.uint64)
        drawn = np.full(len(rows), -1)
        wanted = seen[rows]
        open_draws = np.flatnonzero(wanted)
        for attempt in range(_ATTEMPTS):
            positive = rows[open_draws]
            uniform = _uniform(self._seed, counters[open_draws], attempt)
            last = known[positive] - 1
            event = np.searchsorted(self._weights, uniform * self._weights[last], side="right")
            candidate = self._items[np.minimum(event, last)]  # rounding must not reach the future
            key = visit[positive] * len(self._counts) + candidate
            refused = taken[np.minimum(np.searchsorted(taken, key), len(taken) - 1)] == key
            drawn[open_draws[~refused]] = candidate[~refused]
            open_draws = open_draws[refused]
        found = drawn >= 0
        self.left_out += int((wanted & ~found).sum())
        self.new_items += int((~seen).sum())
        return seen, rows[found], drawn[found]

    def _seen(self, items: NDArray[np.int64], timestamps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether an event of each item lies in an earlier second; asked before these events are counted."""
        beyond = max(0, int(items.max(initial=-1)) + 1 - len(self._counts))
        earlier = np.pad(self._counts, (0, beyond))[items] > 0
        _, first, group = np.unique(items, return_index=True, return_inverse=True)
        return earlier | (timestamps > timestamps[first][group])

    def _append(self, items: NDArray[np.int64]) -> None:
        counts = np.bincount(items, minlength=len(self._counts))
        earlier = np.pad(self._counts, (0, len(counts) - len(self._counts)))
        order = np.argsort(items, kind="stable")
        starts = np.cumsum(counts) - counts
        occurrence = np.empty(len(items), dtype=np.int64)
        occurrence[order] = np.arange(len(items)) - starts[items[order]]
        occurrence += earlier[items]
        # 0^0 is 1 to numpy, but an item's first event has all of the weight under exponent 0.
        previous = np.where(occurrence > 0, occurrence.astype(np.float64) ** self._exponent, 0.0)
        weights = (occurrence + 1.0) ** self._exponent - previous
        total = self._weights[-1] if len(self._weights) else 0.0
        self._items = np.concatenate([self._items, items])
        self._weights = np.concatenate([self._weights, total + np.cumsum(weights)])
        self._counts = earlier + counts


def _uniform(seed: NDArray[np.uint64], counters: NDArray[np.uint64], attempt: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that are a function of their arguments alone."""
    bits = mix(mix(counters * np.uint64(_ATTEMPTS) + np.uint64(attempt)) ^ seed)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
