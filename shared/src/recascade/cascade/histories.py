"""What a service knows of its users: the events of the split, and those that came in since."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit


class Histories:
    """Histories of the users of a split, which grow in memory while serving; a restart forgets the growth.

    Args:
        data: its training and validation events are known.
        most_events: latest new events per user that are kept.
        most_users: users whose new events are kept, those with the latest ones.
    """

    def __init__(self, data: EncodedSplit, *, most_events: int, most_users: int) -> None:
        self._events = data.events
        # A vocabulary is made for columns of identifiers; to look up a single one in it takes a thousand times as long.
        self._rows = {user: row for row, user in enumerate(data.users.ids.to_list())}
        self._most_events, self._most_users = most_events, most_users
        self._new: OrderedDict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def known(self, user: str) -> bool:
        """Whether anything is known of the user."""
        return user in self._new or user in self._rows

    def add(self, user: str, items: Sequence[int], time: int | None) -> None:
        """Note what a user did, oldest first, at a time in seconds or, where that is not told, at that of the latest
        event; visible to the next request."""
        with self._lock:
            old_items, old_times = self._new.pop(user, (np.zeros(0, np.int64), np.zeros(0, np.int64)))
            if time is None:
                time = max(self._latest_trained(user), int(old_times.max(initial=0)))
            times = np.concatenate([old_times, np.full(len(items), time, dtype=np.int64)])
            order = np.argsort(times, kind="stable")[-self._most_events :]
            both = np.concatenate([old_items, np.asarray(items, dtype=np.int64)])
            self._new[user] = (both[order], times[order])
            if len(self._new) > self._most_users:
                self._new.popitem(last=False)

    def context(self, user: str, now: int | None) -> Context:
        """A request of one user, at a time in seconds or, where that is not told, right after the latest event."""
        row = self._rows.get(user, -1)
        items, times = self._new.get(user, (np.zeros(0, np.int64), np.zeros(0, np.int64)))
        if row >= 0:
            known = slice(int(self._events.offsets[row]), int(self._events.offsets[row + 1]))
            items = np.concatenate([self._events.items[known].astype(np.int64), items])
            times = np.concatenate([self._events.timestamps[known], times])
        return request(row, items, times, now)

    def _latest_trained(self, user: str) -> int:
        """Time of the user's last event in the split; 0 without one."""
        row = self._rows.get(user, -1)
        known = slice(0, 0) if row < 0 else slice(int(self._events.offsets[row]), int(self._events.offsets[row + 1]))
        return int(self._events.timestamps[known].max(initial=0))

    def sample(self, count: int) -> list[str]:
        """Some users with a history, the same ones at every call."""
        rows = np.flatnonzero(self._events.lengths)
        drawn = set(np.random.default_rng(0).permutation(rows)[:count].tolist())
        return [user for user, row in self._rows.items() if row in drawn]


def request(user: int, items: NDArray[np.int64], timestamps: NDArray[np.int64], now: int | None) -> Context:
    """One request with this history, oldest event first.

    Args:
        user: index in the user vocabulary, -1 for unknown.
        items: int64 ``[T]``.
        timestamps: int64 ``[T]``, seconds; all 0 where unknown.
        now: seconds, or None for right after the latest event.
    """
    latest = int(timestamps.max(initial=0)) if now is None else now
    return Context(
        users=torch.tensor([user]),
        items=torch.from_numpy(items),
        timestamps=torch.from_numpy(timestamps),
        offsets=torch.tensor([0, len(items)]),
        now=torch.tensor([latest]),
    )
