"""Who gets a signal, and that its ranking request meets it there.

That both go to the same instance is the paper's; hashing with bounded load and tickets are our design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from recascade_relaygr.relay.config import RouterConfig
from recascade_relaygr.relay.requests import Ticket
from recascade_relaygr.relay.ring import HashRing


class Router:
    """The ring of the instances that are up, and its history number.

    Args:
        members: names of the instances; more may come.
        config: of the router.

    Attributes:
        epoch: grows by one whenever an instance comes or goes.
    """

    def __init__(self, members: Iterable[str], config: RouterConfig) -> None:
        self.config = config
        self.epoch = 0
        self.ring = HashRing(members, config.virtual_nodes)

    @property
    def members(self) -> tuple[str, ...]:
        """Instances that are up, by name."""
        return self.ring.members

    def add(self, member: str) -> None:
        """An instance has come up."""
        self._replace({*self.members, member})

    def remove(self, member: str) -> None:
        """An instance has gone, or takes no new requests."""
        self._replace({*self.members} - {member})

    def signal_owner(self, user: str, request: str, busy: Callable[[str], float]) -> str:
        """Where the prefix of a user is to be run; empty where no instance is up.

        Args:
            user: whose.
            request: identifier; decides where nobody cares for affinity.
            busy: seconds of work that wait at an instance. An owner with more than ``load_bound`` times the mean, plus
                a millisecond, hands on.
        """
        owners = list(islice(self.ring.owners(self._place(user, f"signal:{request}")), self.config.successors + 1))
        if len(owners) < 2:
            return owners[0] if owners else ""
        bound = self.config.load_bound * sum(map(busy, self.members)) / len(self.members) + 1e-3
        return next((owner for owner in owners if busy(owner) <= bound), owners[0])

    def rank_owner(self, ticket: Ticket | None, user: str, request: str) -> tuple[str, bool]:
        """Where a ranking request goes, and whether prefixes may be used there.

        A ticket's owner, as long as it is up, even if the ring has changed; without a ticket the owner by the ring, who
        may hold an earlier request's prefix. Where the owner is gone, the next instance answers without the relay.
        """
        if self.config.affinity and ticket is not None and ticket.owner:
            if ticket.owner in self.members:
                return ticket.owner, True
            return next(self.ring.owners(user), ""), False
        return next(self.ring.owners(self._place(user, f"rank:{request}")), ""), True

    def _place(self, user: str, otherwise: str) -> str:
        return user if self.config.affinity else otherwise

    def _replace(self, members: set[str]) -> None:
        self.ring = HashRing(members, self.config.virtual_nodes)
        self.epoch += 1
