"""What one request costs: the retriever is asked for one user at a time, and CPU time is taken of each call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever
from recascade.threads import one_thread

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Latency:
    """Quantiles over single requests.

    Attributes:
        p50: median, milliseconds.
        p99: 99th percentile, milliseconds.
        requests: how many requests were measured.
        clock: ``cpu`` is the CPU time of answering with one thread, which other programs on the machine do not disturb;
            ``wall`` is used where the work is done on another device.
    """

    p50: float
    p99: float
    requests: int
    clock: Clock


def measure_latency(
    retriever: Retriever,
    requests: Sequence[Context],
    k: int,
    *,
    exclude_seen: bool = False,
    warm_up: int = 10,
    device: str = "cpu",
) -> Latency:
    """Answer each request alone and take the time from the request to the list.

    Args:
        retriever: the fitted retriever.
        requests: contexts, each of one request, on the CPU; at least one. The copy to ``device`` counts too.
        k: length of the lists.
        exclude_seen: as in evaluation.
        warm_up: answers given before the clock runs (caches that a retriever fills at its first request).
        device: where the retriever computes.
    """

    def answer(request: Context) -> Callable[[], object]:
        return lambda: retriever.retrieve(request.to(device), k, exclude_seen=exclude_seen)

    return measure_calls([answer(request) for request in requests], warm_up=warm_up, device=device)


def measure_calls(calls: Sequence[Callable[[], object]], *, warm_up: int = 10, device: str = "cpu") -> Latency:
    """Make each call alone and take its time.

    Args:
        calls: one per request; at least one.
        warm_up: calls made before the clock runs.
        device: where they compute.
    """
    read, wait, clock = _clock_of(device)
    # The CPU time of several threads, which wait for each other busily, would not be a latency.
    with torch.inference_mode(), one_thread():
        for number in range(warm_up):
            calls[number % len(calls)]()
        milliseconds = np.empty(len(calls))
        for number, call in enumerate(calls):
            wait()
            begin = read()
            call()
            wait()
            milliseconds[number] = (read() - begin) / 1e6
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return Latency(float(p50), float(p99), len(calls), clock)


def _clock_of(device: str) -> tuple[Callable[[], int], Callable[[], None], Clock]:
    if torch.device(device).type == "cuda":
        return time.perf_counter_ns, torch.cuda.synchronize, "wall"
    return time.process_time_ns, lambda: None, "cpu"
