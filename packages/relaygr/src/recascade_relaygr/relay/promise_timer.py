"""Ends promises in time even where nothing else happens, so that their prefixes are copied while it is quiet."""

from __future__ import annotations

from recascade_relaygr.relay.cache import PrefixCache
from recascade_relaygr.relay.clock import Clock, Timer


class PromiseTimer:
    """One timer for all promises of a cache.

    Args:
        clock: time.
        cache: whose promises end.
    """

    def __init__(self, clock: Clock, cache: PrefixCache) -> None:
        self._clock = clock
        self._cache = cache
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Call when something was promised."""
        deadline = self._cache.next_deadline
        if self._timer is None and deadline is not None:
            self._timer = self._clock.call_at(deadline, self._end)

    def _end(self) -> None:
        self._timer = None
        self._cache.expire(self._clock.time())
        self.watch()
