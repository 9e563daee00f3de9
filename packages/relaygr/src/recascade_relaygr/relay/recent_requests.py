"""Which requests were answered or announced a moment ago, so that late and repeated signals are recognised."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from recascade_relaygr.relay.cache import Entry


class Announced(NamedTuple):
    """When a request was announced, and the entry that it was promised, if there was room."""

    time: float
    entry: Entry | None


class RecentRequests:
    """Remembers requests for some seconds.

    Args:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._answered: OrderedDict[str, float] = OrderedDict()
        self._announced: OrderedDict[str, Announced] = OrderedDict()

    def forget_old(self, now: float) -> None:
        """Let go of what is older."""
        oldest = now - self.seconds
        while self._answered and next(iter(self._answered.values())) < oldest:
            self._answered.popitem(last=False)
        while self._announced and next(iter(self._announced.values())).time < oldest:
            self._announced.popitem(last=False)

    def answered(self, request: str) -> bool:
        """Whether the request has come, or was cancelled."""
        return request in self._answered

    def announce(self, request: str, now: float, entry: Entry | None) -> None:
        """A signal has come; a repeated one changes nothing."""
        self._announced.setdefault(request, Announced(now, entry))

    def come(self, request: str, now: float) -> Announced | None:
        """The request has come, or was cancelled; gives its announcement."""
        self._answered[request] = now
        return self._announced.pop(request, None)
