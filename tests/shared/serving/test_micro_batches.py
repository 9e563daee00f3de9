"""Requests that wait together are computed together, and each gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from recascade.serving.micro_batches import MicroBatches
from recascade.serving.parameters import RequestError


def test_requests_that_come_while_others_are_computed_are_computed_together() -> None:
    sizes = []
    first, go_on = threading.Event(), threading.Event()

    def compute(requests: Sequence[int]) -> list[int]:
        sizes.append(len(requests))
        first.set()
        go_on.wait(10)
        return [2 * each for each in requests]

    batches: MicroBatches[int, int] = MicroBatches(compute, most=4)
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(batches.answer, 0)]
        assert first.wait(10)
        answers += [pool.submit(batches.answer, number) for number in range(1, 10)]
        while batches._asked.qsize() < 9:
            threading.Event().wait(0.001)
        go_on.set()
        assert [each.result(10) for each in answers] == [2 * number for number in range(10)]
    batches.close()
    assert sizes == [1, 4, 4, 1] and (batches.batches, batches.requests) == (4, 10)


def test_a_failure_reaches_everybody_of_its_batch_and_nobody_else() -> None:
    def compute(requests: Sequence[int]) -> list[int]:
        if 3 in requests:
            raise RequestError("no threes")
        return list(requests)

    batches: MicroBatches[int, int] = MicroBatches(compute, most=1)
    with pytest.raises(RequestError, match="no threes"):
        batches.answer(3)
    assert batches.answer(4) == 4
    batches.close()


def test_a_request_may_wait_for_others() -> None:
    sizes = []

    def compute(requests: Sequence[int]) -> list[int]:
        sizes.append(len(requests))
        return list(requests)

    batches: MicroBatches[int, int] = MicroBatches(compute, most=3, wait_seconds=30.0)
    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(batches.answer, range(3))) == [0, 1, 2]
    assert sizes == [3]
    batches.close()


def test_closing_answers_what_was_asked() -> None:
    started, go_on = threading.Event(), threading.Event()

    def compute(requests: Sequence[int]) -> list[int]:
        started.set()
        go_on.wait(10)
        return list(requests)

    batches: MicroBatches[int, int] = MicroBatches(compute, most=1)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(batches.answer, number) for number in range(2)]
        assert started.wait(10)
        while batches._asked.qsize() < 1:
            threading.Event().wait(0.001)
        closing = pool.submit(batches.close)
        go_on.set()
        closing.result(10)
        assert [each.result(10) for each in answers] == [0, 1]
