"""Lists that a user was given a moment ago (GR4AD, §4.2, "Reco Result Cache")."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple


class CachedList(NamedTuple):
    """Items, best first, with their scores."""

    items: Sequence[str]
    scores: Sequence[float]


class ResultCache:
    """Lists by user and placement, for a limited time. Safe to use from threads.

    An entry that holds an ad which is no longer alive counts as none, so a deleted ad is never given again, even if its
    list was computed before the deletion and stored after it.

    Args:
        seconds: how long a list may be given again; at exactly this age it is too old.
        entries: lists kept at most; the oldest go first.

    Attributes:
        hits: lists that were found.
        misses: lists that were not.
    """

    def __init__(self, seconds: float, entries: int) -> None:
        self._seconds = seconds
        self._entries = entries
        self._lists: OrderedDict[tuple[str, str], tuple[float, CachedList]] = OrderedDict()
        self._lock = Lock()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._lists)

    def get(
        self, user: str, placement: str, length: int, now: float, alive: Callable[[str], bool]
    ) -> CachedList | None:
        """The first ``length`` places of the user's list, or None.

        Args:
            user: whose list.
            placement: where it is shown.
            length: places needed; a shorter list counts as none.
            now: seconds of the clock that ``put`` was given.
            alive: whether an ad may still be shown.
        """
        with self._lock:
            stored = self._lists.get((user, placement))
            if stored is not None and now - stored[0] >= self._seconds:
                del self._lists[user, placement]
                stored = None
            found = None
            if stored is not None and len(stored[1].items) >= length:
                found = CachedList(stored[1].items[:length], stored[1].scores[:length])
            if found is not None and not all(map(alive, found.items)):
                found = None
            self.hits += found is not None
            self.misses += found is None
            return found

    def put(self, user: str, placement: str, found: CachedList, now: float) -> None:
        """Keep a list that was computed at ``now`` (seconds)."""
        if self._seconds <= 0:
            return
        with self._lock:
            self._lists.pop((user, placement), None)
            self._lists[user, placement] = (now, found)
            while len(self._lists) > self._entries:
                self._lists.popitem(last=False)
