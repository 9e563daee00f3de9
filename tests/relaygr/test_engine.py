"""The engine on this machine: real scores, real threads, and an answer whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from relay_world import costs
from torch import Tensor

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError, DataError
from recascade_relaygr.engine.engine import RelayEngine, _measured
from recascade_relaygr.engine.front import Answer
from recascade_relaygr.engine.history import cut
from recascade_relaygr.engine.host import EngineHost
from recascade_relaygr.engine.memory import PrefixMemory, runs
from recascade_relaygr.engine.profile import measure_costs
from recascade_relaygr.engine.works import HostCopy, TorchWorks, _checksum
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.ranker.safety import PrefixUnsafeError
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.device import Work
from recascade_relaygr.relay.requests import Sizes
from recascade_relaygr.run_folder import request_of

ITEMS = 50
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def ranker(kind: type[HSTURanker] = HSTURanker, device: str = "cpu") -> HSTURanker:
    torch.manual_seed(0)
    return kind(ITEMS, dimension=16, max_length=512, initial_deviation=0.3).eval().to(device)


def history(events: int, seed: int = 0) -> Context:
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(ITEMS, (events,), generator=generator).tolist()
    return request_of(items, [1000 * number for number in range(events)], 10**6)


ITEMS_ASKED = torch.arange(20)


def configuration(**settings: Any) -> RelayConfig:
    """A budget below the predicted cost of full inference, and a deadline that a slow machine keeps too."""
    config = RelayConfig(rank_budget_ms=1e4, join_slop_ms=1e4, degrade=False)
    config.trigger.enabled = False
    config.cache.page_tokens = 16
    config.executor.chunk_tokens = 64
    config.cache.window_ms = config.cache.longest_window_ms = 1e4
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def engine(model: HSTURanker | None = None, config: RelayConfig | None = None, **settings: Any) -> RelayEngine:
    return RelayEngine(model or ranker(), ITEMS, config or configuration(), costs=costs(), **settings)


async def idle(served: RelayEngine) -> None:
    while any(each.executor.busy_lanes for each in served.instances.values()):
        await asyncio.sleep(0.001)


async def hinted(served: RelayEngine, events: Context, user: str = "u", *, pause: bool = False) -> Answer:
    ticket = served.hint(user, events, 20)
    assert ticket.admitted
    if pause:
        await idle(served)
    return await served.rank(user, events, ITEMS_ASKED, ticket)


@pytest.mark.parametrize("device", DEVICES)
def test_scores_are_those_of_the_ranker_on_every_path(device: str) -> None:
    model = ranker(device=device)
    events = history(300)
    expected = model.score(events.to(device), ITEMS_ASKED[None].to(device))[0].cpu()

    async def answers() -> list[Answer]:
        served = engine(model, device=device)
        found = [
            await hinted(served, events, "relay", pause=True),
            await hinted(served, events, "joined"),
            await served.rank("nobody", events, ITEMS_ASKED),
        ]
        served.close()
        return found

    found = asyncio.run(answers())
    assert [answer.path for answer in found] == ["relay", "relay_joined", "full"]
    for answer in found:
        assert torch.allclose(answer.scores, expected, rtol=0, atol=1e-5) and answer.events == 300


def test_a_copy_brought_back_gives_the_same_scores() -> None:
    events = history(300)

    async def answers() -> tuple[Answer, dict[str, Any]]:
        config = configuration()
        config.cache.capacity_mib = 0.08
        served = engine(config=config)
        await hinted(served, events, pause=True)
        await idle(served)
        await hinted(served, history(310, seed=1), "other", pause=True)
        await idle(served)
        assert not served.instances["instance-0"].cache.get(*_key(served, events))
        found = await served.rank("u", events, ITEMS_ASKED)
        stats = served.stats()
        served.close()
        return found, stats

    found, stats = asyncio.run(answers())
    assert found.path == "relay_reload" and stats["fills"]["reload"] == 1
    assert torch.allclose(found.scores, ranker().score(events, ITEMS_ASKED[None])[0], rtol=0, atol=1e-5)


def _key(served: RelayEngine, events: Context) -> tuple[Any, bytes]:
    from recascade_relaygr.engine.history import fingerprint
    from recascade_relaygr.relay.requests import PrefixKey

    given = served._input(events)
    return PrefixKey(served.version, "u"), fingerprint(given.history, given.prefix)


def test_an_event_between_hint_and_ranking_is_seen() -> None:
    async def answers() -> Answer:
        served = engine()
        ticket = served.hint("u", history(95), 20)
        found = await served.rank("u", history(97), ITEMS_ASKED, ticket)
        served.close()
        return found

    found = asyncio.run(answers())
    assert found.events == 97 and found.path.startswith("relay")
    assert torch.allclose(found.scores, ranker().score(history(97), ITEMS_ASKED[None])[0], rtol=0, atol=1e-5)


def test_a_history_that_changed_is_ranked_anew() -> None:
    async def answers() -> Answer:
        served = engine()
        ticket = served.hint("u", history(200), 20)
        found = await served.rank("u", history(200, seed=5), ITEMS_ASKED, ticket)
        served.close()
        return found

    found = asyncio.run(answers())
    assert found.path == "full"
    assert torch.allclose(found.scores, ranker().score(history(200, seed=5), ITEMS_ASKED[None])[0], atol=1e-5)


@pytest.mark.parametrize("events", [0, 1, 15, 16, 17, 512, 513, 1500])
def test_histories_of_every_length_are_answered(events: int) -> None:
    async def answers() -> Answer:
        served = engine()
        ticket = served.hint("u", history(events), 20)
        found = await served.rank("u", history(events), ITEMS_ASKED, ticket)
        served.close()
        return found

    assert asyncio.run(answers()).events == events - cut(events, 512, 16).start


class Breaks(HSTURanker):
    """Fails in what only the relay does."""

    failure: BaseException | float | None = None
    inline = False

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        found = super().prefill(history, states)
        if self.inline or Breaks.failure is None:
            return found
        if isinstance(Breaks.failure, BaseException):
            raise Breaks.failure
        return found * Breaks.failure

    def score(self, context: Context, items: Tensor) -> Tensor:
        self.inline = True
        found = super().score(context, items)
        self.inline = False
        return found


@pytest.mark.parametrize("failure", [MemoryError("out of memory"), RuntimeError("device"), float("nan"), float("inf")])
def test_a_prefix_that_fails_ends_in_full_inference(failure: BaseException | float) -> None:
    async def answers() -> tuple[Answer, dict[str, Any]]:
        config = configuration()
        config.executor.lanes = 1
        served = engine(ranker(Breaks), config)
        Breaks.failure = failure
        try:
            found = await hinted(served, history(300), pause=True)
        finally:
            Breaks.failure = None
            served.close()
        return found, served.stats()

    found, stats = asyncio.run(answers())
    assert found.path == "full" and set(stats["fills"]) == {"prefill-failed"} and stats["prefix_bytes"] == 0
    assert torch.allclose(found.scores, ranker().score(history(300), ITEMS_ASKED[None])[0], rtol=0, atol=1e-5)


def test_requests_of_an_instance_that_leaves_are_answered_by_another() -> None:
    async def answers() -> list[Answer]:
        served = engine(instances=3)
        tickets = [served.hint(f"user-{number}", history(200, number), 20) for number in range(12)]
        waiting = [
            asyncio.create_task(served.rank(f"user-{number}", history(200, number), ITEMS_ASKED, ticket))
            for number, ticket in enumerate(tickets)
        ]
        await asyncio.sleep(0)
        served.remove(tickets[0].owner)
        found = await asyncio.gather(*waiting)
        late = await served.rank("user-0", history(200, 0), ITEMS_ASKED, tickets[0])
        served.close()
        return [*found, late]

    found = asyncio.run(answers())
    assert len(found) == 13 and found[-1].path == "full"
    for number, answer in enumerate([*found[:-1]]):
        expected = ranker().score(history(200, number), ITEMS_ASKED[None])[0]
        assert torch.allclose(answer.scores, expected, rtol=0, atol=1e-5)


def test_a_caller_who_gives_up_leaves_nothing_pinned() -> None:
    async def answers() -> bool:
        served = engine()
        for number in range(5):
            events = history(300, number)
            ticket = served.hint(str(number), events, 20)
            task = asyncio.create_task(served.rank(str(number), events, ITEMS_ASKED, ticket))
            await asyncio.sleep(0.001 * number)
            task.cancel()
        await asyncio.sleep(0.01)
        await idle(served)
        free = all(entry.pins == 0 for each in served.instances.values() for entry in each.cache.entries)
        served.close()
        return free

    assert asyncio.run(answers())


def test_an_unsafe_ranker_is_not_served() -> None:
    class Unsafe(HSTURanker):
        def _events(self, items: Tensor) -> Tensor:
            events = super()._events(items)
            return events + events.mean(0)

    async def start() -> None:
        engine(ranker(Unsafe))

    with pytest.raises(PrefixUnsafeError):
        asyncio.run(start())


def test_states_in_half_the_bytes_have_a_tolerance_of_their_own() -> None:
    async def answers() -> tuple[float, Answer, int]:
        served = engine(state_dtype=torch.bfloat16)
        found = await hinted(served, history(300), pause=True)
        used = served.stats()["prefix_bytes"]
        served.close()
        return served.prefix_error, found, used

    error, found, used = asyncio.run(answers())
    assert 1e-5 < error < 2e-2 and found.path == "relay"
    assert torch.allclose(found.scores, ranker().score(history(300), ITEMS_ASKED[None])[0], rtol=0, atol=2e-2)
    layers, width = ranker().state_shape
    assert used == 288 * layers * width * 2

    async def strict() -> None:
        engine(state_dtype=torch.bfloat16, tolerance=1e-5)

    with pytest.raises(PrefixUnsafeError):
        asyncio.run(strict())


def test_pages_larger_than_the_history_are_refused() -> None:
    async def start() -> None:
        config = configuration()
        config.cache.page_tokens = config.executor.chunk_tokens = 1024
        engine(config=config)

    with pytest.raises(ConfigurationError, match="page_tokens"):
        asyncio.run(start())


def test_a_host_serves_other_threads_and_passes_errors_on() -> None:
    host = EngineHost(engine)
    events = history(100)
    ticket = host.call(host.engine.hint, "u", events, 20)
    answer = host.wait(host.engine.rank("u", events, ITEMS_ASKED, ticket))
    host.close()
    assert torch.allclose(answer.scores, ranker().score(events, ITEMS_ASKED[None])[0], rtol=0, atol=1e-5)
    with pytest.raises(ConfigurationError):
        EngineHost(lambda: engine(config=RelayConfig(rank_budget_ms=-1)))


def test_requests_that_wait_at_a_host_that_closes_are_told() -> None:
    host = EngineHost(engine)
    # Nothing is ever done in the lanes, so that the request waits.
    host.engine.instances["instance-0"].executor.device = cast(Any, SimpleNamespace(start=lambda work, done: None))
    future = asyncio.run_coroutine_threadsafe(host.engine.rank("u", history(100), ITEMS_ASKED), host.loop)
    host.call(int)
    assert not future.done()
    host.close()
    with pytest.raises(CancelledError):
        future.result(timeout=30)


def test_who_gives_up_takes_no_other_ranking_with_the_same_ticket_along() -> None:
    async def answers() -> tuple[Answer, Answer]:
        served = engine()
        events = history(300)
        first, second = (served.hint("u", events, 20, request="mine") for _ in range(2))
        asked = [
            asyncio.create_task(served.rank("u", events, ITEMS_ASKED, ticket)) for ticket in (first, second, first)
        ]
        await asyncio.sleep(0)
        asked[0].cancel()
        found = await asyncio.wait_for(asked[1], 10), await asyncio.wait_for(asked[2], 10)
        served.close()
        return found

    expected = ranker().score(history(300), ITEMS_ASKED[None])[0]
    for answer in asyncio.run(answers()):
        assert torch.allclose(answer.scores, expected, rtol=0, atol=1e-5)


def test_costs_are_measured_on_as_many_threads_as_a_lane_has() -> None:
    threads: set[int] = set()

    class Counts(HSTURanker):
        def score_on(self, states: Sequence[Tensor], history: Context, items: Tensor) -> Tensor:
            threads.add(torch.get_num_threads())
            return super().score_on(states, history, items)

    torch.set_num_threads(2)
    _measured(ranker(Counts), ITEMS, 256, "cpu", torch.float32)
    assert threads == {1} and torch.get_num_threads() == 2


def test_costs_are_measured_at_every_length() -> None:
    made = measure_costs(
        ranker(), ITEMS, lengths=[0, 64, 256], candidates=[1, 20], recent=15, page_tokens=16, repeats=1
    )
    assert made.prefill(0) == 0 and made.reload(0) == 0
    for length in (64, 256):
        assert made.full(Sizes(length, 15, 20)) > 0 and made.rank(Sizes(length, 15, 20)) > 0
        assert made.prefill(length) > 0 and made.reload(length) > 0
    with pytest.raises(ConfigurationError, match="multiples of 16"):
        measure_costs(ranker(), ITEMS, lengths=[100], candidates=[1], page_tokens=16)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pages", [(0, 1, 2), (5, 0, 3), (1, 2, 0)])
def test_memory_gives_back_what_was_written_in_any_pages(pages: tuple[int, ...], device: str) -> None:
    memory = PrefixMemory(2, 3, 6, 4, device=device)
    states = torch.randn(2, 10, 3, device=device)
    memory.write(pages, 0, states[:, :4])
    memory.write(pages, 4, states[:, 4:])
    pieces = memory.read(pages, 10, torch.float32)
    assert torch.equal(torch.cat(pieces, 1), states) and len(pieces) == len(runs(pages))
    assert torch.equal(torch.cat(memory.read(pages, 5, torch.float32), 1), states[:, :5])


def test_a_damaged_copy_is_noticed() -> None:
    memory = PrefixMemory(2, 32, 4, 16)
    memory.states.normal_()
    works = TorchWorks(ranker(), memory)
    copy: HostCopy = works.compute(Work("copy", Sizes(40, 0, 0), 0.0, (3, 0, 1), end=40))
    works.compute(Work("reload", Sizes(40, 0, 0), 0.0, (0, 1, 2), end=40, payload=copy))
    damaged = copy.states.clone()
    damaged[1, 7, 3] += 1
    with pytest.raises(DataError, match="damaged"):
        works.compute(Work("reload", Sizes(40, 0, 0), 0.0, (0, 1, 2), end=40, payload=HostCopy(damaged, copy.checksum)))


@pytest.mark.parametrize("shape", [(2, 40, 32), (1, 3, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_changed_word_changes_the_checksum(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    states = torch.randn(shape).to(dtype)
    before = _checksum(states)
    assert before == _checksum(states.clone())
    for place in (0, states.numel() // 2, states.numel() - 1):
        damaged = states.clone()
        damaged.view(-1)[place] += 1
        assert _checksum(damaged) != before
