"""Swing: items are alike when pairs of users who otherwise have little in common took both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.tokenizers.code_groups import place_in_group

# About so many common items of user pairs are held at once.
_COMMON_AT_ONCE = 1 << 22


def swing(
    data: EncodedSplit, *, smoothing: float, longest_history: int, users_per_item: int, seed: int
) -> sparse.csr_matrix:
    """Similarity of items over pairs of users u, v who both took i and j: Σ 1 / (α + |I_u ∩ I_v|).

    As commonly published (Yang et al., 2020, arXiv 2010.05525, without their user weights); the sum is over unordered
    pairs. Two caps bound the cost, which grows with the square of what they cap: a user's latest distinct items, and a
    seeded draw of an item's users. Only training events are read.

    Args:
        data: the encoded split.
        smoothing: α.
        longest_history: latest distinct training items of a user that count.
        users_per_item: users of an item that count.
        seed: of the draw.

    Returns:
        float32 ``[I, I]``, symmetric, the diagonal empty.
    """
    taken = _taken(data, longest_history, users_per_item, seed)
    taken_by = taken.T.tocsr()
    similarity = sparse.csr_matrix((taken.shape[1],) * 2, dtype=np.float32)
    # Σ over v of |I_u ∩ I_v| is what user u costs; whole users are worked through in pieces of about equal cost.
    cost = np.cumsum(taken @ np.diff(taken_by.indptr))
    bounds = np.flatnonzero(np.diff(cost // _COMMON_AT_ONCE)) + 1
    for block in np.split(np.arange(taken.shape[0]), bounds):
        overlap = sparse.coo_matrix(taken[block] @ taken_by)
        one, other = block[overlap.row], overlap.col
        # A single common item makes no pair of items; each pair of users is met once.
        pairs = (overlap.data >= 2) & (one < other)
        common = taken[one[pairs]].multiply(taken[other[pairs]]).tocsr()
        weights = (1 / (smoothing + overlap.data[pairs])).astype(np.float32)
        similarity += common.T @ sparse.diags_array(weights) @ common
    similarity.setdiag(0)
    similarity.eliminate_zeros()
    return similarity.astype(np.float32)


def strongest(similarity: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The ``count`` largest entries of each row (of equal ones the first columns), as float32 ``[I, I]``."""
    rows = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    order = np.lexsort((similarity.indices, -similarity.data, rows))
    kept = order[place_in_group(rows[order]) < count]
    return sparse.csr_matrix((similarity.data[kept], (rows[kept], similarity.indices[kept])), shape=similarity.shape)


def _taken(data: EncodedSplit, longest_history: int, users_per_item: int, seed: int) -> sparse.csr_matrix:
    """float32 ``[U, I]``: 1 where the item is among the user's latest and the user among those drawn for the item."""
    lengths = data.train_lengths
    index = ranges(data.events.offsets[:-1], lengths)
    users = np.repeat(np.arange(len(lengths)), lengths)
    items = data.events.items[index].astype(np.int64)
    # From the latest event back: the first of each user and item is kept.
    keys = (users * len(data.items) + items)[::-1]
    keys = keys[np.sort(np.unique(keys, return_index=True)[1])]
    users, items = np.divmod(keys, len(data.items))
    latest = place_in_group(users) < longest_history
    users, items = users[latest], items[latest]
    drawn = _draw(items, users_per_item, seed)
    ones = np.ones(int(drawn.sum()), dtype=np.float32)
    return sparse.csr_matrix((ones, (users[drawn], items[drawn])), shape=(len(lengths), len(data.items)))


def _draw(groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """bool ``[N]``: at most ``count`` rows of each group, at random."""
    order = np.random.default_rng(seed).permutation(len(groups))
    drawn = np.empty(len(groups), dtype=np.bool_)
    drawn[order] = place_in_group(groups[order]) < count
    return drawn
