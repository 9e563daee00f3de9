"""What the relay itself costs: CPU time of a decision, and of a hint and a ranking beside the model.

    python benchmarks/relaygr_overhead.py

The ranker computes nothing, so that all CPU time of the process, its threads included, is the engine's. What we aim
for is 50 µs for a decision and 300 µs for a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import click
import numpy as np
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade_relaygr.engine.engine import RelayEngine
from recascade_relaygr.engine.history import fingerprint
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.relay.costs import Costs, CostTable
from recascade_relaygr.relay.requests import OwnerLoad, PrefixKey, Sizes
from recascade_relaygr.run_folder import request_of

_BATCHES = 10
LENGTHS = [0, 512, 1024, 2048, 4096]


class Nothing:
    """A ranker whose answers cost next to nothing."""

    max_length = 4096
    state_shape = (1, 1)

    def score(self, context: Context, items: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros(items.shape)

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        """Zeros."""
        return torch.zeros(1, history.items.numel() - sum(piece.shape[1] for piece in states), 1)

    def score_on(self, states: Sequence[Tensor], history: Context, items: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros(items.shape)


def costs() -> Costs:
    """Full inference over a long history misses the budget; all else is quick."""

    def table(*milliseconds: float) -> CostTable:
        return CostTable(LENGTHS, [128], [[each / 1e3] for each in milliseconds])

    return Costs(table(5, 20, 40, 80, 160), table(3, 4, 5, 6, 8), table(0, 1, 1, 1, 1), table(0, 1, 1, 1, 1))


async def measure(requests: int, tokens: int) -> dict[str, float]:
    """Microseconds of CPU time, by what they are spent on."""
    config = RelayConfig(join_slop_ms=1e3, degrade=False)
    engine = RelayEngine(Nothing(), 1000, config, costs=costs())
    items = torch.arange(128)
    histories = [request_of([number % 1000] * tokens, list(range(tokens))) for number in range(64)]
    trigger, load = engine.gateway.trigger, OwnerLoad(0.0, 0.0, 0.0, 1 << 30, 1 << 30, 0.0)
    sizes = Sizes(tokens, 0, 128)

    decisions = np.empty(requests)
    for number in range(requests):
        begun = time.perf_counter_ns()
        trigger.decide("instance-0", sizes, 1 << 20, load, 0.0)
        decisions[number] = time.perf_counter_ns() - begun
    tickets, prints = np.empty(requests), np.empty(requests)
    for number in range(requests):
        history = histories[number % 64]
        begun = time.perf_counter_ns()
        content = fingerprint(history, tokens)
        middle = time.perf_counter_ns()
        engine.gateway.ticket(str(number), PrefixKey("0", str(number % 64)), content, sizes, engine.loop.time())
        tickets[number] = time.perf_counter_ns() - middle
        prints[number] = middle - begun

    async def ask(number: int, *, hinted: bool) -> None:
        user, history = str(number % 64), histories[number % 64]
        ticket = engine.hint(user, history, 128) if hinted else None
        await engine.rank(user, history, items, ticket)

    found = {}
    for name, hinted in (("rank alone", False), ("hint and rank", True)):
        for number in range(200):
            await ask(number, hinted=hinted)
        batches = []
        for _ in range(_BATCHES):
            begun = time.process_time()
            for number in range(requests // _BATCHES):
                await ask(number, hinted=hinted)
            batches.append((time.process_time() - begun) / (requests // _BATCHES) * 1e6)
        # What else the machine does costs CPU time too (shared caches and cores): the least disturbed batch counts.
        found[f"{name}, best batch"], found[f"{name}, median batch"] = min(batches), float(np.median(batches))
    engine.close()
    return {
        "trigger's decision, median": float(np.median(decisions)) / 1e3,
        "trigger's decision, p99": float(np.percentile(decisions, 99)) / 1e3,
        "ticket, median": float(np.median(tickets)) / 1e3,
        "fingerprint, median": float(np.median(prints)) / 1e3,
        **found,
    }


@click.command()
@click.option("--requests", default=3000, show_default=True)
@click.option("--tokens", default=2048, show_default=True, help="Events of each history.")
def main(requests: int, tokens: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for name, microseconds in asyncio.run(measure(requests, tokens)).items():
        click.echo(f"{name:28s} {microseconds:8.1f} µs")


if __name__ == "__main__":
    main()
