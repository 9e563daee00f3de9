"""Measure what the works of a ranker take on this machine, before the first request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import torch

from recascade.contracts.context import Context
from recascade.contracts.ranker import PrefixRanker
from recascade.errors import ConfigurationError
from recascade_relaygr.engine.history import RankInput
from recascade_relaygr.engine.memory import PrefixMemory
from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.relay.costs import Costs, CostTable
from recascade_relaygr.relay.device import Work, WorkKind
from recascade_relaygr.relay.requests import Sizes


def measure_costs(
    ranker: PrefixRanker,
    items: int,
    *,
    lengths: Sequence[int],
    candidates: Sequence[int],
    recent: int = 64,
    repeats: int = 3,
    page_tokens: int = 64,
    clock: Callable[[], float] = perf_counter,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Costs:
    """Tables of the four durations: the longest of a few runs at each grid point.

    Args:
        ranker: in evaluation mode, on ``device``.
        items: size of its catalogue.
        lengths: ascending prefix lengths, multiples of ``page_tokens``.
        candidates: ascending numbers of candidates.
        recent: events behind the prefix.
        repeats: runs of each work after one that warms up.
        page_tokens: of the prefix cache.
        clock: seconds; ``time.process_time`` leaves other programs out on a CPU.
        device: where the ranker computes.
        dtype: that it computes with.

    Raises:
        ConfigurationError: a length does not fit pages or ranker.
    """
    for length in lengths:
        if length % page_tokens or length + recent > ranker.max_length:
            raise ConfigurationError(
                f"Costs cannot be measured at {length} tokens; give multiples of {page_tokens} up to "
                f"{ranker.max_length - recent}."
            )
    longest = lengths[-1]
    layers, width = ranker.state_shape
    memory = PrefixMemory(layers, width, max(longest // page_tokens, 1), page_tokens, dtype, device)
    memory.states.zero_()
    worker = TorchWorks(ranker, memory, device, dtype)
    pages = tuple(range(max(longest // page_tokens, 1)))

    def seconds(kind: WorkKind, length: int, count: int, payload: object = None) -> float:
        request = _random_request(length, recent, items, count)
        work = Work(kind, Sizes(length, recent, count), 0.0, pages, 0, length, request if payload is None else payload)
        taken = []
        for _ in range(repeats + 1):
            begun = clock()
            worker.compute(work)
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(clock() - begun)
        return max(taken[1:])

    def reload(length: int, _: int) -> float:
        if not length:
            return 0.0
        copy = worker.compute(Work("copy", Sizes(length, 0, 0), 0.0, pages, end=length))
        return seconds("reload", length, 1, copy)

    return Costs(
        full=CostTable.measured(lambda n, k: seconds("full", n, k), lengths, candidates),
        rank=CostTable.measured(lambda n, k: seconds("rank", n, k), lengths, candidates),
        prefill=CostTable.measured(lambda n, _: seconds("prefill", n, 1) if n else 0.0, lengths),
        reload=CostTable.measured(reload, lengths),
    )


def _random_request(prefix: int, recent: int, items: int, candidates: int) -> RankInput:
    generator = torch.Generator().manual_seed(prefix)
    length = prefix + recent
    history = Context(
        users=torch.zeros(1, dtype=torch.int64),
        items=torch.randint(items, (length,), generator=generator),
        timestamps=torch.arange(length) * 3600,
        offsets=torch.tensor([0, length]),
    )
    return RankInput(history, prefix, torch.randint(items, (1, candidates), generator=generator))
