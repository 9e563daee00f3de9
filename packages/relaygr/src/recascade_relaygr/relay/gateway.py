"""The retrieval side of the relay: decides, chooses an owner, and writes both on a ticket."""

from __future__ import annotations

from collections.abc import Callable

from recascade_relaygr.relay.requests import OwnerLoad, PrefixKey, Sizes, Ticket
from recascade_relaygr.relay.router import Router
from recascade_relaygr.relay.trigger import Trigger

LoadOf = Callable[[str], "OwnerLoad | None"]
HeldBy = Callable[[str, PrefixKey, bytes], str]


class Gateway:
    """Makes tickets; has no state but the trigger's counters and the router's ring.

    Args:
        trigger: decides.
        router: chooses the owner.
        load_of: what is known of an instance; None for nothing.
        held_by: what an instance already has of a prefix, see ``Trigger.decide``; nothing where it cannot be known.
        bytes_of: bytes that a prefix of some tokens reserves.
    """

    def __init__(
        self,
        trigger: Trigger,
        router: Router,
        load_of: LoadOf,
        bytes_of: Callable[[int], int],
        held_by: HeldBy = lambda owner, key, fingerprint: "",
    ) -> None:
        self.trigger = trigger
        self.router = router
        self._load_of = load_of
        self._bytes_of = bytes_of
        self._held_by = held_by

    def ticket(
        self, request: str, key: PrefixKey, fingerprint: bytes, sizes: Sizes, now: float, start: int = 0
    ) -> Ticket:
        """Decide on a request whose ranking is to come. Where it is admitted, send the signal to ``ticket.owner``.

        Args:
            request: identifier.
            key: whose prefix.
            fingerprint: of its content.
            sizes: tokens and candidates that are expected.
            now: clock time.
            start: first event of the history that is read.
        """
        owner = self.router.signal_owner(key.user, request, self._busy)
        decision = self.trigger.decide(
            owner,
            sizes,
            self._bytes_of(sizes.prefix),
            self._load_of(owner) if owner else None,
            now,
            held=self._held_by(owner, key, fingerprint) if owner else "",
        )
        return Ticket(
            request=request,
            key=key,
            fingerprint=fingerprint,
            admitted=decision.admitted,
            reason=decision.reason,
            owner=owner if decision.admitted else "",
            epoch=self.router.epoch,
            prefix_tokens=decision.prefix_tokens,
            issued=now,
            start=start + sizes.prefix - decision.prefix_tokens,
        )

    def route(self, ticket: Ticket | None, user: str, request: str, now: float) -> tuple[str, bool]:
        """Where a ranking request goes, and whether it may use prefixes there; learns the slack from its ticket."""
        if ticket is not None:
            self.trigger.slack.observe(now - ticket.issued, now)
        return self.router.rank_owner(ticket, user, request)

    def _busy(self, member: str) -> float:
        load = self._load_of(member)
        return 0.0 if load is None else load.rank_queue + load.fill_queue
