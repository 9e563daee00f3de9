"""The tier behind the prefix cache: copies in this host's memory, for users who come back soon.

That a server-local tier catches short-term re-use and spares reloads is the paper's; its bound, order of eviction and
time to live are ours. It has no way to reach another host, so no request ever waits for one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from recascade_relaygr.relay.requests import PrefixKey


@dataclass(frozen=True, slots=True)
class Copy:
    """A prefix in host memory.

    Attributes:
        fingerprint: of its content.
        tokens: its length.
        size: bytes.
        expires: clock time.
        payload: what the device wrote; opaque to the tier.
    """

    fingerprint: bytes
    tokens: int
    size: int
    expires: float
    payload: Any


class Expander:
    """Copies by key, least recently used first out, at most ``capacity`` bytes after every call.

    Args:
        capacity: bytes.
        seconds: how long a copy is kept.
    """

    def __init__(self, capacity: int, seconds: float) -> None:
        self.capacity = capacity
        self.seconds = seconds
        self.bytes = 0
        self._copies: OrderedDict[PrefixKey, Copy] = OrderedDict()

    def __len__(self) -> int:
        return len(self._copies)

    def get(self, key: PrefixKey, fingerprint: bytes, now: float) -> Copy | None:
        """The copy of this content, if it is here and young enough."""
        copy = self._copies.get(key)
        if copy is None or copy.fingerprint != fingerprint:
            return None
        if copy.expires <= now:
            self.drop(key)
            return None
        self._copies.move_to_end(key)
        return copy

    def put(self, key: PrefixKey, fingerprint: bytes, tokens: int, size: int, payload: Any, now: float) -> bool:
        """Keep a copy; False where it is larger than the whole tier."""
        self.drop(key)
        if size > self.capacity:
            return False
        while self.bytes + size > self.capacity:
            self.drop(next(iter(self._copies)))
        self._copies[key] = Copy(fingerprint, tokens, size, now + self.seconds, payload)
        self.bytes += size
        return True

    def drop(self, key: PrefixKey) -> None:
        """Forget the copy of a key, if there is one."""
        copy = self._copies.pop(key, None)
        if copy is not None:
            self.bytes -= copy.size
