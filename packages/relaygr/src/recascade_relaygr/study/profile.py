"""Measures how long a device takes, again and again, for the simulator to draw from."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from time import perf_counter, thread_time
from typing import Any

import torch

from recascade.contracts.ranker import PrefixRanker
from recascade.errors import ConfigurationError
from recascade_relaygr.engine.profile import measure_costs
from recascade_relaygr.relay.costs import CostTable


def measure_durations(
    ranker: PrefixRanker, items: int, *, candidates: Sequence[int], page_tokens: int, sweeps: int, device: str
) -> dict[str, Any]:
    """What ``simulation.cost_tables.durations_of`` reads.

    On a CPU the time of one thread is taken, which other programs on the machine do not disturb.

    Args:
        ranker: in evaluation mode, on ``device``.
        items: size of its catalogue.
        candidates: ascending numbers of candidates.
        page_tokens: of the prefix cache; lengths are 0 and its multiples by powers of two, up to what the ranker reads.
        sweeps: samples of each place; all places are measured before any is measured again, so that a slow spell of the
            machine does not hit one of them alone.
        device: where the ranker computes.

    Raises:
        ConfigurationError: the ranker reads less than two pages.
    """
    longest = ranker.max_length // page_tokens - 1
    if longest < 1:
        raise ConfigurationError(
            f"The ranker reads {ranker.max_length} events, and a page holds {page_tokens}; name smaller pages."
        )
    lengths = [0, *(page_tokens * pages for pages in sorted({min(2**power, longest) for power in range(20)}))]
    on_gpu = device.startswith("cuda")
    tables = [
        measure_costs(
            ranker,
            items,
            lengths=lengths,
            candidates=candidates,
            recent=page_tokens - 1,
            repeats=1,
            page_tokens=page_tokens,
            clock=perf_counter if on_gpu else thread_time,
            device=device,
        )
        for _ in range(sweeps)
    ]

    def samples(table_of: Any, counts: Sequence[int]) -> list[list[list[float]]]:
        found: list[CostTable] = [table_of(costs) for costs in tables]
        return [[[table.seconds(length, count) for table in found] for count in counts] for length in lengths]

    layers, width = ranker.state_shape
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else f"one thread of a {platform.machine()} processor",
        "token_bytes": layers * width * torch.empty(0).element_size(),
        "lengths": lengths,
        "candidates": list(candidates),
        "seconds": {
            "full": samples(lambda costs: costs.full_table, candidates),
            "rank": samples(lambda costs: costs.rank_table, candidates),
            "prefill": samples(lambda costs: costs.prefill_table, [1]),
            "reload": samples(lambda costs: costs.reload_table, [1]),
        },
    }
