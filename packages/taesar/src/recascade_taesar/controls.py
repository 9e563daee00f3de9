"""Insertions without a model, to see what any longer row would do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recascade_taesar.rows import INSERTED, Candidates


def random_successors(
    users: NDArray[np.int64],
    own: NDArray[np.int64],
    places: NDArray[np.int64],
    rate: float,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """int64 ``[N]``: at a share of the places an item that followed the user's last item of the domain somewhere in
    training, else -1.

    Args:
        users: int64 ``[N]``, the user of each training event, ascending.
        own: int64 ``[N]``, the item of each event of the target domain, else -1.
        places: int64 ``[P]``, events of other domains.
        rate: share of the places.
        random: of the draws.
    """
    events = np.flatnonzero(own >= 0)
    follows = users[events[1:]] == users[events[:-1]]
    before, after = own[events[:-1]][follows], own[events[1:]][follows]
    order = np.argsort(before, kind="stable")
    before, after = before[order], after[order]
    last = np.maximum.accumulate(np.where(own >= 0, np.arange(len(own)), -1))
    known = last[places]
    chosen = (known >= 0) & (random.random(len(places)) < rate)
    chosen[chosen] &= users[known[chosen]] == users[places[chosen]]
    asked = own[known[chosen]]
    start, end = np.searchsorted(before, asked), np.searchsorted(before, asked, side="right")
    found = end > start
    drawn = start[found] + (random.random(int(found.sum())) * (end - start)[found]).astype(np.int64)
    result = np.full(len(users), -1, dtype=np.int64)
    result[places[chosen][found]] = after[drawn]
    return result


def with_shifted(own: Candidates, members: NDArray[np.int64], rate: float, random: np.random.Generator) -> Candidates:
    """The user's own events, a share of them followed by the item with the next number in the domain.

    Args:
        own: events of the target domain.
        members: int64 ``[C]``, the domain's items in the order of their numbers.
        rate: share of the events that are followed.
        random: of the draws.
    """
    following = np.full(int(members.max()) + 1, -1, dtype=np.int64)
    following[members[:-1]] = members[1:]
    chosen = np.flatnonzero((random.random(len(own.users)) < rate) & (following[own.items] >= 0))
    # Each chosen event stands twice, and its second copy becomes the item behind it.
    repeats = np.ones(len(own.users), dtype=np.int64)
    repeats[chosen] = 2
    twice = own.take(np.repeat(np.arange(len(own.users)), repeats))
    added = np.cumsum(repeats)[chosen] - 1
    twice.items[added] = following[own.items[chosen]]
    twice.origins[added] = INSERTED
    return twice
