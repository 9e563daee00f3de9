"""A trace of ranking requests, and its replay through one instance of the relay: see ``relaygr_replay.py``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from recascade_relaygr.engine.history import RankInput, cut, fingerprint
from recascade_relaygr.engine.measured_device import MeasuredDevice
from recascade_relaygr.engine.memory import PrefixMemory
from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.relay.clock import VirtualClock
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs
from recascade_relaygr.relay.gateway import Gateway
from recascade_relaygr.relay.instance import Instance
from recascade_relaygr.relay.requests import Outcome, PrefixKey, RankRequest, Signal, Sizes, Ticket
from recascade_relaygr.relay.router import Router
from recascade_relaygr.relay.trigger import Trigger
from recascade_relaygr.run_folder import request_of

ITEMS, CANDIDATES, PAGE = 10_000, 128, 64


@dataclass(frozen=True)
class Request:
    """One arrival of a trace: when, who, with how many events, and the seconds until it is ranked."""

    time: float
    user: int
    events: int
    slack: float


def trace(
    rate: float, count: int, tokens: int, revisits: float, seed: int, *, slack: float, short_share: float = 0.0
) -> list[Request]:
    """Requests of users with about ``tokens`` events, and a share of users with an eighth of that."""
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.exponential(1 / rate, count))
    slacks = np.maximum(generator.lognormal(np.log(slack), 0.3, count), 0.02)
    requests: list[Request] = []
    events: list[int] = []
    for time, pause in zip(times.tolist(), slacks.tolist(), strict=True):
        if events and generator.random() < revisits:
            user = int(generator.integers(len(events)))
            events[user] += int(generator.integers(1, 4))
        else:
            user = len(events)
            length = tokens // 8 if generator.random() < short_share else tokens
            events.append(length + int(generator.integers(8, 40)))
        requests.append(Request(time, user, events[user], pause))
    return requests


def configuration(arm: str, budget: float) -> RelayConfig:
    """The relay, or what it is compared with."""
    config = RelayConfig(rank_budget_ms=budget * 1e3, degrade=False)
    config.cache.capacity_mib, config.expander.capacity_mib = 128.0, 1024.0
    if arm == "lru":
        config.fill_on_rank, config.cache.eviction = True, "lru"
    return config


def replay(
    arm: str, model: HSTURanker, costs: Costs, requests: list[Request], budget: float
) -> tuple[list[tuple[Request, Outcome]], Instance]:
    """Send a trace through one instance."""
    clock, config = VirtualClock(), configuration(arm, budget)
    # What the trigger would know after some seconds of service.
    config.trigger.slack_ms = float(np.quantile([request.slack for request in requests], 0.1)) * 1e3
    layers, width = model.state_shape
    token_bytes = layers * width * 4
    pages = int(config.cache.capacity_mib * (1 << 20)) // (token_bytes * PAGE)
    works = TorchWorks(model, PrefixMemory(layers, width, pages, PAGE))
    instance = Instance("a", clock, MeasuredDevice(works, clock), costs, config, token_bytes)
    gateway = Gateway(
        Trigger(config, costs, 0.0),
        Router(["a"], config.router),
        lambda owner: instance.load(),
        instance.cache.bytes_of,
        lambda owner, key, content: instance.held(key, content),
    )
    answers: list[tuple[Request, Outcome]] = []
    everything = {user: events for user, events in _histories(requests, model.max_length)}

    def given(request: Request, ticket: Ticket | None) -> RankInput:
        items, times = everything[request.user]
        start, prefix = cut(request.events, model.max_length, PAGE)
        if ticket is not None and ticket.admitted:
            start, prefix = ticket.start, ticket.prefix_tokens
        history = request_of(
            items[start : request.events], times[start : request.events], times[request.events - 1] + 60
        )
        candidates = torch.randint(ITEMS, (1, CANDIDATES), generator=torch.Generator().manual_seed(request.events))
        return RankInput(history, prefix, candidates)

    def arrive(number: int, request: Request) -> None:
        ticket = None
        if arm == "relay":
            found, key = given(request, None), PrefixKey("v", str(request.user))
            content = fingerprint(found.history, found.prefix)
            sizes = Sizes(found.prefix, found.history.items.numel() - found.prefix, CANDIDATES)
            start = request.events - found.history.items.numel()
            ticket = gateway.ticket(str(number), key, content, sizes, clock.time(), start)
            if ticket.admitted:
                found = given(request, ticket)
                content = fingerprint(found.history, found.prefix)
                instance.signal(Signal(str(number), key, content, found.prefix, clock.time() + 1.0, found))
        clock.call_at(clock.time() + request.slack, rank, number, request, ticket)

    def rank(number: int, request: Request, ticket: Ticket | None) -> None:
        found = given(request, ticket)
        gateway.route(ticket, str(request.user), str(number), clock.time())
        sizes = Sizes(found.prefix, found.history.items.numel() - found.prefix, CANDIDATES)
        asked = RankRequest(
            request=str(number),
            key=PrefixKey("v", str(request.user)),
            fingerprint=fingerprint(found.history, found.prefix),
            sizes=sizes,
            deadline=clock.time() + budget,
            payload=found,
            relay=arm in ("lru", "relay"),
        )
        instance.rank(asked, lambda outcome: answers.append((request, outcome)))

    for number, request in enumerate(requests):
        clock.call_at(request.time, arrive, number, request)
    clock.run()
    return answers, instance


def _histories(requests: list[Request], most: int) -> Iterator[tuple[int, tuple[list[int], list[int]]]]:
    longest: dict[int, int] = {}
    for request in requests:
        longest[request.user] = max(longest.get(request.user, 0), request.events)
    for user, events in longest.items():
        generator = np.random.default_rng(user)
        yield user, (generator.integers(0, ITEMS, events).tolist(), (np.arange(events) * 3600).tolist())
