"""The relay in one process: hint early, rank later, with asyncio."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.ranker import PrefixRanker
from recascade.errors import ConfigurationError
from recascade_relaygr.engine.history import RankInput, cut, fingerprint
from recascade_relaygr.engine.memory import PrefixMemory
from recascade_relaygr.engine.profile import measure_costs
from recascade_relaygr.engine.torch_device import TorchDevice
from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.ranker.safety import check_prefix_safety
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.gateway import Gateway
from recascade_relaygr.relay.instance import Instance, InstanceGoneError
from recascade_relaygr.relay.requests import (
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


@dataclass(frozen=True)
class Answer:
    """The scores of one request.

    Attributes:
        scores: float32 ``[k]``, greater is better.
        path: how they came about.
        events: of the history, that they know of.
        milliseconds: from ``rank`` to the answer, in the instance.
    """

    scores: Tensor
    path: AnswerPath
    events: int
    milliseconds: float


class RelayEngine:
    """Ranks on prefixes that were run ahead where that is of use, and in full where it is not.

    ``hint`` may be left out, repeated, or come late; ``rank`` always answers. To be made and used on one running event
    loop.

    Args:
        ranker: in evaluation mode, on ``device``.
        items: size of its catalogue.
        config: of the relay.
        version: of the weights; states of another version are never used.
        instances: logical ones in this process, each with lanes and memory of its own.
        costs: predicted durations; None measures them now, which takes some seconds.
        device: where the ranker computes.
        dtype: that it computes with.
        state_dtype: that states are kept in; None for ``dtype``. A narrower one halves the bytes and costs accuracy.
        tolerance: the largest error of a score that the safety check allows; None for that of the states' precision.

    Raises:
        PrefixUnsafeError: running a prefix ahead of time changes the ranker's scores.
        ConfigurationError: the configuration cannot work.
    """

    def __init__(
        self,
        ranker: PrefixRanker,
        items: int,
        config: RelayConfig | None = None,
        *,
        version: str = "0",
        instances: int = 1,
        costs: Costs | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        state_dtype: torch.dtype | None = None,
        tolerance: float | None = None,
    ) -> None:
        self.config = config or RelayConfig()
        self.config.check()
        self.ranker = ranker
        self.version = version
        self.prefix_error = check_prefix_safety(
            ranker, items, tolerance=tolerance, dtype=dtype, device=device, stored=state_dtype
        )
        page = self.config.cache.page_tokens
        if ranker.max_length < page:
            raise ConfigurationError(
                f"The ranker reads {ranker.max_length} events and a page holds {page}; lower relay.cache.page_tokens."
            )
        self.loop = asyncio.get_running_loop()
        stored = state_dtype or dtype
        layers, width = ranker.state_shape
        token_bytes = layers * width * torch.empty(0, dtype=stored).element_size()
        self.costs = costs or _measured(ranker, items, page, device, dtype)
        self.instances: dict[str, Instance] = {}
        self._devices: list[TorchDevice] = []
        for number in range(instances):
            pages = int(self.config.cache.capacity_mib * (1 << 20)) // (token_bytes * page)
            memory = PrefixMemory(layers, width, pages, page, stored, device)
            worker = TorchDevice(TorchWorks(ranker, memory, device, dtype), self.config.executor.lanes, self.loop)
            name = f"instance-{number}"
            self.instances[name] = Instance(name, self.loop, worker, self.costs, self.config, token_bytes)
            self._devices.append(worker)
        self.router = Router(self.instances, self.config.router)
        first = next(iter(self.instances.values()))
        self.gateway = Gateway(
            Trigger(self.config, self.costs, self.loop.time()),
            self.router,
            self._load_of,
            first.cache.bytes_of,
            lambda owner, key, content: self.instances[owner].held(key, content),
        )
        self.reasons: Counter[str] = Counter()
        self._numbers = count()

    def hint(self, user: str, history: Context, candidates: int, *, request: str = "") -> Ticket:
        """Say that a ranking request is to come. Returns at once; give the ticket to ``rank``.

        Args:
            user: identifier.
            history: one request with the user's whole history, on the CPU.
            candidates: how many there will be, about.
            request: identifier; empty makes one up.
        """
        given, key = self._input(history), PrefixKey(self.version, user)
        now = self.loop.time()
        content = fingerprint(given.history, given.prefix)
        sizes = Sizes(given.prefix, given.history.items.numel() - given.prefix, candidates)
        name = request or f"request-{next(self._numbers)}"
        ticket = self.gateway.ticket(
            name, key, content, sizes, now, history.items.numel() - given.history.items.numel()
        )
        self.reasons[ticket.reason] += 1
        if ticket.admitted:
            shortened = given.with_prefix(ticket.prefix_tokens)
            if shortened is not given:
                content = fingerprint(shortened.history, shortened.prefix)
            deadline = now + self.instances[ticket.owner].window.seconds
            signal = Signal(ticket.request, key, content, shortened.prefix, deadline, shortened)
            self.instances[ticket.owner].signal(signal)
        return ticket

    async def rank(
        self, user: str, history: Context, items: Tensor, ticket: Ticket | None = None, *, budget: float | None = None
    ) -> Answer:
        """Score candidates.

        Args:
            user: identifier.
            history: one request with the user's whole history, on the CPU.
            items: int64 ``[k]``, at least one.
            ticket: from ``hint``.
            budget: seconds; None for ``relay.rank_budget_ms``.
        """
        now = self.loop.time()
        given = self._input(history, items, ticket)
        name = ticket.request if ticket is not None else f"request-{next(self._numbers)}"
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
        outcome = await self._ask(owner, request)
        if outcome.error is not None:
            raise outcome.error
        events = outcome.prefix_tokens + request.sizes.recent
        return Answer(outcome.result, outcome.path, events, outcome.served * 1e3)

    def remove(self, name: str) -> None:
        """Take an instance out of service; what waits there is answered by another one."""
        self.router.remove(name)
        self.instances[name].leave()

    def stats(self) -> dict[str, Any]:
        """Answers by path, signals and fills by what became of them, refusals by reason, bytes and times."""
        everyone = list(self.instances.values())
        paths = sum((each.statistics.paths for each in everyone), Counter[str]())
        answers = sum(paths.values())
        return {
            "answers": answers,
            "errors": sum(each.statistics.errors for each in everyone),
            "paths": dict(paths),
            "shares": {path: number / answers for path, number in paths.items()},
            "signals": dict(sum((each.statistics.signals for each in everyone), Counter[str]())),
            "fills": dict(sum((each.statistics.fills for each in everyone), Counter[str]())),
            "decisions": dict(self.reasons),
            "prefix_bytes": sum(each.cache.reserved_bytes for each in everyone),
            "prefix_capacity_bytes": sum(each.cache.capacity_bytes for each in everyone),
            "copy_bytes": sum(each.expander.bytes for each in everyone),
            "rank_seconds": sum(each.executor.rank_seconds for each in everyone),
            "fill_seconds": sum(each.executor.fill_seconds for each in everyone),
            "p50_ms": max(each.statistics.quantile(0.50) for each in everyone) * 1e3,
            "p99_ms": max(each.statistics.quantile(0.99) for each in everyone) * 1e3,
            "prefix_error": self.prefix_error,
        }

    def close(self) -> None:
        """Finish the works that were begun; requests that still wait are not answered."""
        for device in self._devices:
            device.close()

    async def _ask(self, owner: str, request: RankRequest) -> Outcome:
        answer: asyncio.Future[Outcome] = self.loop.create_future()

        def done(outcome: Outcome) -> None:
            if not answer.done():
                answer.set_result(outcome)

        self.instances[owner].rank(request, done)
        try:
            outcome = await answer
        except asyncio.CancelledError:
            self.instances[owner].cancel(request.request)
            raise
        if not isinstance(outcome.error, InstanceGoneError):
            return outcome
        another, _ = self.router.rank_owner(None, request.key.user, request.request)
        if not another:
            return outcome
        inline = RankRequest(
            request.request, request.key, b"", request.sizes, request.deadline, request.payload, relay=False
        )
        return await self._ask(another, inline)

    def _input(self, history: Context, items: Tensor | None = None, ticket: Ticket | None = None) -> RankInput:
        """The history as the ranker reads it, cut as the ticket's was, so that the prefix is the same."""
        events = history.items.numel()
        start, prefix = cut(events, self.ranker.max_length, self.config.cache.page_tokens)
        if ticket is not None and ticket.admitted:
            fits = ticket.prefix_tokens <= events - ticket.start <= self.ranker.max_length
            start, prefix = (ticket.start, ticket.prefix_tokens) if fits else (start, prefix)
        kept = history.last(events - start) if start else history
        return RankInput(kept, prefix, None if items is None else items[None])

    def _load_of(self, owner: str) -> OwnerLoad:
        return self.instances[owner].load()


def _measured(
    ranker: PrefixRanker, items: int, page_tokens: int, device: torch.device | str, dtype: torch.dtype
) -> Costs:
    recent = page_tokens - 1
    longest = (ranker.max_length - recent) // page_tokens * page_tokens
    lengths = [0]
    length = page_tokens
    while length < longest:
        lengths.append(length)
        length *= 2
    lengths += [longest] if longest > lengths[-1] else []
    return measure_costs(
        ranker,
        items,
        lengths=lengths,
        candidates=(1, 128, 512),
        recent=recent,
        page_tokens=page_tokens,
        device=device,
        dtype=dtype,
    )
