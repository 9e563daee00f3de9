"""Consistent hashing: every gateway computes the same owner of a user without asking anybody."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b


def stable_hash(text: str) -> int:
    """64 bits that depend on the text alone, in every process and on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class HashRing:
    """Instances on a circle, each at many places; a user's owner is the first instance clockwise from the user's hash.

    When one instance of M leaves, only the 1/M of the users that it owned get another owner.

    Args:
        members: names of instances.
        virtual_nodes: places of each.
    """

    def __init__(self, members: Iterable[str], virtual_nodes: int) -> None:
        self.members = tuple(sorted(set(members)))
        places = sorted(
            (stable_hash(f"{member}#{number}"), member) for member in self.members for number in range(virtual_nodes)
        )
        self._hashes = [place for place, _ in places]
        self._owners = [member for _, member in places]

    def owners(self, user: str) -> Iterator[str]:
        """The user's owner, then the next instances clockwise, each once."""
        place = bisect_right(self._hashes, stable_hash(user))
        told: set[str] = set()
        while len(told) < len(self.members):
            owner = self._owners[place % len(self._owners)]
            if owner not in told:
                told.add(owner)
                yield owner
            place += 1
