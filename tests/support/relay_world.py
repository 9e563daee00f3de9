"""One instance of the relay: a clock that a test moves, a device that takes tabulated times and fails on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recascade_relaygr.relay.clock import VirtualClock
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs, CostTable
from recascade_relaygr.relay.device import Work
from recascade_relaygr.relay.instance import Instance
from recascade_relaygr.relay.requests import Outcome, PrefixKey, RankRequest, Signal, Sizes
from recascade_relaygr.relay.tabulated_device import TabulatedDevice

LENGTHS = (0, 1024, 2048, 4096)
TOKEN_BYTES = 1024


def table(*milliseconds: float) -> CostTable:
    return CostTable(LENGTHS, [128], [[each / 1e3] for each in milliseconds])


def costs() -> Costs:
    """Full inference of 2,048 tokens takes 40 ms, ranking on them 6, running them 30, bringing them back 2."""
    return Costs(table(4, 16, 40, 100), table(3, 4, 6, 10), table(0, 12, 30, 80), table(0, 1, 2, 4))


class Failure(Exception):
    """Planted."""


class FailingDevice(TabulatedDevice):
    """Fails works that a test names, after the time that they take."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock, costs())
        self.fails: Callable[[Work], bool] = lambda work: False
        self.works: list[Work] = []
        self.running = 0
        self.most_running = 0

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        self.works.append(work)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        error = Failure(work.kind) if self.fails(work) else None

        def finish(result: Any, _: BaseException | None, seconds: float) -> None:
            self.running -= 1
            done(None if error else result, error, seconds)

        super().start(work, finish)

    def count(self, kind: str) -> int:
        return sum(work.kind == kind for work in self.works)


class World:
    """``settings`` are attributes of ``RelayConfig``, with ``__`` for a dot; prefixes are run for signals alone unless
    they say otherwise."""

    def __init__(self, **settings: Any) -> None:
        self.config = RelayConfig(fill_on_rank=False)
        for name, value in settings.items():
            *sections, field = name.split("__")
            section: Any = self.config
            for each in sections:
                section = getattr(section, each)
            setattr(section, field, value)
        self.config.check()
        self.clock = VirtualClock()
        self.device = FailingDevice(self.clock)
        self.instance = Instance("a", self.clock, self.device, costs(), self.config, TOKEN_BYTES)
        self.answers: dict[str, Outcome] = {}
        self.answered_twice: list[str] = []

    def at(self, milliseconds: float) -> None:
        self.clock.run_until(milliseconds / 1e3)

    def settle(self, seconds: float = 30.0) -> None:
        self.clock.run_until(self.clock.time() + seconds)
        self.instance.cache.expire(self.clock.time())

    def signal(
        self, request: str, user: str = "u", tokens: int = 2048, content: bytes = b"1", life: float = 1.0
    ) -> str:
        deadline = self.clock.time() + life
        return self.instance.signal(Signal(request, PrefixKey("v", user), content, tokens, deadline))

    def rank(
        self,
        request: str,
        user: str = "u",
        tokens: int = 2048,
        content: bytes = b"1",
        budget: float | None = None,
        relay: bool = True,
    ) -> None:
        deadline = self.clock.time() + (self.config.rank_budget if budget is None else budget)
        sizes = Sizes(tokens, 64, 128)

        def done(outcome: Outcome) -> None:
            if request in self.answers:
                self.answered_twice.append(request)
            self.answers[request] = outcome

        self.instance.rank(RankRequest(request, PrefixKey("v", user), content, sizes, deadline, relay=relay), done)

    def path(self, request: str) -> str:
        return self.answers[request].path
