"""The front of the relay: from a user's history to an instance's answer, wherever the instances are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

from torch import Tensor

from recascade.contracts.context import Context
from recascade.errors import RecascadeError
from recascade_relaygr.engine.history import RankInput, cut, fingerprint
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.gateway import Gateway
from recascade_relaygr.relay.requests import (
    InstanceGoneError,
    Outcome,
    OwnerLoad,
    PrefixKey,
    RankRequest,
    Signal,
    Sizes,
    Ticket,
)
from recascade_relaygr.relay.requests import Path as AnswerPath
from recascade_relaygr.relay.router import Router
from recascade_relaygr.relay.trigger import Trigger


class Member(Protocol):
    """What the front needs of an instance, in this process or elsewhere."""

    def signal(self, signal: Signal) -> object:
        """Have a prefix run; nothing is waited for."""
        ...

    def rank(self, request: RankRequest, done: Callable[[Outcome], None]) -> None:
        """Have candidates scored; ``done`` is called once, on the loop's thread."""
        ...

    def cancel(self, request: str) -> None:
        """Nobody waits for this request any more."""
        ...

    def load(self) -> OwnerLoad | None:
        """What is known of its queues and its memory."""
        ...

    def held(self, key: PrefixKey, fingerprint: bytes) -> str:
        """What it has of a prefix, see ``Trigger.decide``."""
        ...


@dataclass(frozen=True)
class Answer:
    """The scores of one request.

    Attributes:
        scores: float32 ``[k]``, greater is better.
        path: how they came about.
        events: of the history, that they know of.
        milliseconds: from the request's arrival at the instance to the answer.
    """

    scores: Tensor
    path: AnswerPath
    events: int
    milliseconds: float


class RelayFront:
    """Cuts histories, asks the trigger, sends signals and ranking requests, and asks another instance where one has
    gone.

    To be made and used on one running event loop.

    Args:
        config: of the relay.
        costs: predicted durations.
        members: instances by name; may change, together with ``router``.
        bytes_of: bytes that a prefix of some tokens reserves.
        version: of the weights.
        max_length: the most events that the ranker reads.
    """

    def __init__(
        self,
        config: RelayConfig,
        costs: Costs,
        members: Mapping[str, Member],
        bytes_of: Callable[[int], int],
        *,
        version: str,
        max_length: int,
    ) -> None:
        self.config = config
        self.costs = costs
        self.version = version
        self.max_length = max_length
        self.loop = asyncio.get_running_loop()
        self.reasons: Counter[str] = Counter()
        self.router = Router(members, config.router)
        self._members = members
        self.gateway = Gateway(
            Trigger(config, costs, self.loop.time()),
            self.router,
            lambda owner: members[owner].load() if owner in members else None,
            bytes_of,
            lambda owner, key, content: members[owner].held(key, content) if owner in members else "",
        )
        self._numbers = count()
        self._under_way: set[str] = set()

    def hint(self, user: str, history: Context, candidates: int, *, request: str = "") -> Ticket:
        """Say that a ranking request is to come. Returns at once; give the ticket to ``rank``.

        Args:
            user: identifier.
            history: one request with the user's whole history, on the CPU.
            candidates: how many there will be, about.
            request: identifier; empty makes one up.
        """
        given, key = self._input(history), PrefixKey(self.version, user)
        now, read = self.loop.time(), given.history.items.numel()
        content = fingerprint(given.history, given.prefix)
        name = request or f"request-{next(self._numbers)}"
        sizes = Sizes(given.prefix, read - given.prefix, candidates)
        ticket = self.gateway.ticket(name, key, content, sizes, now, history.items.numel() - read)
        self.reasons[ticket.reason] += 1
        if ticket.admitted and ticket.owner in self._members:
            shortened = given.with_prefix(ticket.prefix_tokens)
            if shortened is not given:
                content = fingerprint(shortened.history, shortened.prefix)
            deadline = now + self.config.cache.longest_window_ms / 1e3
            signal = Signal(ticket.request, key, content, shortened.prefix, deadline, shortened)
            self._members[ticket.owner].signal(signal)
        return ticket

    async def rank(
        self, user: str, history: Context, items: Tensor, ticket: Ticket | None = None, *, budget: float | None = None
    ) -> Answer:
        """Score candidates.

        Args:
            user: identifier.
            history: one request with the user's whole history, on the CPU.
            items: int64 ``[k]``, at least one; -1 for an item that training never saw.
            ticket: from ``hint``.
            budget: seconds; None for ``relay.rank_budget_ms``.

        Raises:
            RecascadeError: no instance is up.
        """
        now = self.loop.time()
        given = self._input(history, items, ticket)
        name = self._name(ticket)
        owner, relay = self.gateway.route(ticket, user, name, now)
        request = RankRequest(
            request=name,
            key=PrefixKey(self.version, user),
            fingerprint=fingerprint(given.history, given.prefix) if relay else b"",
            sizes=Sizes(given.prefix, given.history.items.numel() - given.prefix, items.numel()),
            deadline=now + (self.config.rank_budget if budget is None else budget),
            payload=given,
            relay=relay,
        )
        self._under_way.add(name)
        try:
            outcome = await self._ask_in_turn(owner, user, request)
        finally:
            self._under_way.discard(name)
        if outcome.error is not None:
            raise outcome.error
        self.learn(owner, request, outcome)
        events = outcome.prefix_tokens + request.sizes.recent
        return Answer(outcome.result, outcome.path, events, outcome.served * 1e3)

    def learn(self, owner: str, request: RankRequest, outcome: Outcome) -> None:
        """Told of each answer; a front that cannot look into its instances learns from it what they hold."""

    def _name(self, ticket: Ticket | None) -> str:
        """Of a request. Instances know requests by name, so that a ticket given twice at a time gets another one."""
        name = "" if ticket is None else ticket.request
        while not name or name in self._under_way:
            name = f"request-{next(self._numbers)}"
        return name

    async def _ask_in_turn(self, owner: str, user: str, request: RankRequest) -> Outcome:
        """The answer of the owner, or of the next instance that is up."""
        outcome = await self._ask(owner, request)
        asked = {owner}
        while isinstance(outcome.error, InstanceGoneError):
            another = next((each for each in self.router.ring.owners(user) if each not in asked), None)
            if another is None:
                break
            asked.add(another)
            outcome = await self._ask(another, replace(request, fingerprint=b"", relay=False))
        return outcome

    async def _ask(self, owner: str, request: RankRequest) -> Outcome:
        member = self._members.get(owner)
        if member is None:
            raise RecascadeError("No instance of the ranking stage is up; start one and ask again.")
        answer: asyncio.Future[Outcome] = self.loop.create_future()
        member.rank(request, lambda outcome: None if answer.done() else answer.set_result(outcome))
        try:
            return await answer
        except asyncio.CancelledError:
            member.cancel(request.request)
            raise

    def _input(self, history: Context, items: Tensor | None = None, ticket: Ticket | None = None) -> RankInput:
        """The history as the ranker reads it, cut as the ticket's was, so that the prefix is the same."""
        events = history.items.numel()
        start, prefix = cut(events, self.max_length, self.config.cache.page_tokens)
        if ticket is not None and ticket.admitted:
            fits = ticket.prefix_tokens <= events - ticket.start <= self.max_length
            start, prefix = (ticket.start, ticket.prefix_tokens) if fits else (start, prefix)
        kept = history.last(events - start) if start else history
        return RankInput(kept, prefix, None if items is None else items[None])


class Engine(Protocol):
    """What a service needs of a relay: a front with statistics and an end."""

    router: Router
    prefix_error: float

    def hint(self, user: str, history: Context, candidates: int, *, request: str = "") -> Ticket:
        """See ``RelayFront.hint``."""
        ...

    async def rank(
        self, user: str, history: Context, items: Tensor, ticket: Ticket | None = None, *, budget: float | None = None
    ) -> Answer:
        """See ``RelayFront.rank``."""
        ...

    def stats(self) -> dict[str, Any]:
        """See ``RelayEngine.stats``."""
        ...

    def close(self) -> None:
        """Finish what was begun."""
        ...
