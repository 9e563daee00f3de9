"""How often one item follows another in the training events, as sparse item × item tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges


def followed_by(data: EncodedSplit) -> sparse.csr_matrix:
    """float32 ``[I, I]``: how often an item of one group stands before an item of the next group of the same user.

    Outside ``ties=group`` every event is a group of its own, and this counts first-order transitions.
    """
    index, users = _training_events(data)
    groups = data.events.groups[index].astype(np.int64)
    new = np.ones(len(index), dtype=np.bool_)
    new[1:] = (users[1:] != users[:-1]) | (groups[1:] != groups[:-1])
    number = np.cumsum(new) - 1
    count = int(number[-1]) + 1 if len(number) else 0
    owners = users[new]
    ones = np.ones(len(index), dtype=np.float32)
    members = sparse.csr_matrix((ones, (number, data.events.items[index])), shape=(count, len(data.items)))
    follows = np.flatnonzero(owners[1:] == owners[:-1]) if count else np.empty(0, dtype=np.int64)
    table: sparse.csr_matrix = (members[follows].T @ members[follows + 1]).tocsr()
    return table


def within_window(data: EncodedSplit, window: int, *, directed: bool) -> sparse.csr_matrix:
    """float32 ``[I, I]``: the sum of 1 / distance over pairs of one user's events at most ``window`` places apart.

    Entry (i, j) counts i before j; with ``directed=False`` also j before i. Two events of one group have no order:
    they count at distance 1 in both directions.
    """
    index, users = _training_events(data)
    items = data.events.items[index]
    groups = data.events.groups[index]
    size = len(data.items)
    table = sparse.csr_matrix((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        same_user = users[distance:] == users[:-distance]
        earlier, later = items[:-distance][same_user], items[distance:][same_user]
        together = (groups[distance:] == groups[:-distance])[same_user]
        weight = np.where(together, 1.0, 1.0 / distance).astype(np.float32)
        table += sparse.csr_matrix((weight, (earlier, later)), shape=(size, size))
        back = together if directed else np.ones_like(together)
        if back.any():
            table += sparse.csr_matrix((weight[back], (later[back], earlier[back])), shape=(size, size))
    return table


def _training_events(data: EncodedSplit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the training events in ``data.events``, and the user of each."""
    lengths = data.train_lengths
    return ranges(data.events.offsets[:-1], lengths), np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
