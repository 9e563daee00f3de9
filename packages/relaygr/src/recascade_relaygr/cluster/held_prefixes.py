"""What a gateway knows of other machines' memories, from their answers alone."""

from __future__ import annotations

from collections import OrderedDict

from recascade_relaygr.relay.requests import Path, PrefixKey

_ON_PREFIX: tuple[Path, ...] = ("relay", "relay_joined", "relay_reload")


class HeldPrefixes:
    """Remembers who answered a user on a stored prefix, for as long as host memory keeps copies.

    The trigger asks, to foresee whether a prefix must be run or only brought back; where the memory is wrong (the copy
    was evicted meanwhile), it foresaw wrongly, and nothing else happens.

    Args:
        seconds: how long a copy is kept; 0 where there is no host tier.
        most: prefixes remembered.
    """

    def __init__(self, seconds: float, most: int = 1_000_000) -> None:
        self.seconds = seconds
        self.most = most
        self._held: OrderedDict[tuple[str, PrefixKey], tuple[bytes, float]] = OrderedDict()

    def learn(self, owner: str, key: PrefixKey, fingerprint: bytes, path: Path, now: float) -> None:
        """An instance has answered."""
        self._held.pop((owner, key), None)
        if path in _ON_PREFIX:
            self._held[owner, key] = fingerprint, now + self.seconds
            if len(self._held) > self.most:
                self._held.popitem(last=False)

    def held(self, owner: str, key: PrefixKey, fingerprint: bytes, now: float) -> str:
        """``copy`` where the owner should have the prefix, else nothing; see ``Trigger.decide``."""
        known, until = self._held.get((owner, key), (b"", 0.0))
        return "copy" if known == fingerprint and now < until else ""
