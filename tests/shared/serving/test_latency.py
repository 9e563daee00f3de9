from __future__ import annotations

import time

import pytest
import torch

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.serving.latency import measure_latency


class Worker:
    """Takes so many milliseconds of CPU time per request, more for request 0; counts its calls and threads."""

    def __init__(self, milliseconds: float, first: float) -> None:
        self.milliseconds = milliseconds
        self.first = first
        self.calls: list[int] = []
        self.threads: set[int] = set()

    def retrieve(self, context: Context, k: int, *, exclude_seen: bool = False, candidates=None) -> TopK:
        user = int(context.users[0])
        self.calls.append(user)
        self.threads.add(torch.get_num_threads())
        end = time.process_time() + (self.first if user == 0 else self.milliseconds) / 1000
        while time.process_time() < end:
            pass
        return TopK(torch.zeros(1, k, dtype=torch.int64), torch.zeros(1, k))


def request(user: int) -> Context:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Context(torch.tensor([user]), nothing, nothing, torch.tensor([0, 0]))


def test_quantiles_are_of_cpu_time_per_request() -> None:
    latency = measure_latency(Worker(2.0, first=30.0), [request(user) for user in range(20)], k=3, warm_up=0)
    assert latency.clock == "cpu"
    assert latency.requests == 20
    assert 2.0 <= latency.p50 < 15.0
    assert latency.p99 > 20.0


def test_waiting_is_not_counted() -> None:
    class Sleeper(Worker):
        def retrieve(self, context: Context, k: int, **options) -> TopK:
            time.sleep(0.05)
            return super().retrieve(context, k)

    latency = measure_latency(Sleeper(1.0, first=1.0), [request(user) for user in range(5)], k=3, warm_up=0)
    assert latency.p50 < 25.0


def test_every_request_is_answered_once_after_the_warm_up() -> None:
    worker = Worker(0.0, first=0.0)
    measure_latency(worker, [request(user) for user in range(4)], k=3, warm_up=6)
    assert worker.calls == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_answers_and_the_number_is_restored(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        worker = Worker(0.0, first=0.0)
        measure_latency(worker, [request(0)], k=3)
        assert worker.threads == {1}
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
