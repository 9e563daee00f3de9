from __future__ import annotations

import threading
import time

from recascade.cascade.stage_worker import StageWorker


def test_a_result_in_time_is_the_result() -> None:
    worker = StageWorker("stage", workers=1, waiting=0)
    outcome = worker.call(lambda: 7, deadline=5)
    assert (outcome.value, outcome.problem) == (7, "")
    worker.close()


def test_a_late_call_is_given_up_at_its_deadline_and_its_thread_serves_again_afterwards() -> None:
    worker = StageWorker("stage", workers=1, waiting=1)
    let_go = threading.Event()
    outcome = worker.call(lambda: let_go.wait(30), deadline=0.05)
    assert (outcome.value, outcome.problem) == (None, "late")
    assert outcome.seconds < 10
    let_go.set()
    assert worker.call(lambda: 7, deadline=10).value == 7
    worker.close()


def test_an_error_is_an_outcome_and_its_place_is_free_again() -> None:
    worker = StageWorker("stage", workers=1, waiting=0)
    for _ in range(5):
        assert worker.call(lambda: 1 // 0, deadline=5).problem == "failed"
    assert worker.call(lambda: 7, deadline=5).value == 7
    worker.close()


def test_calls_that_never_end_do_not_pile_up() -> None:
    worker = StageWorker("stage", workers=1, waiting=1)
    let_go = threading.Event()
    entered = []

    def stuck() -> None:
        entered.append(1)
        let_go.wait(30)

    problems = [worker.call(stuck, deadline=0.02).problem for _ in range(2)]
    # The second one was cancelled while it waited, so one more may wait; nobody waits for a deadline in vain for long.
    assert problems == ["late", "late"]
    assert len(entered) == 1, "a call that was given up before it began never begins"
    waiting = worker.start(stuck)
    begin = time.perf_counter()
    assert worker.call(stuck, deadline=20).problem == "busy"
    assert time.perf_counter() - begin < 10
    let_go.set()
    assert waiting is not None
    waiting.result(timeout=10)
    worker.close()


def test_a_worker_without_threads_answers_too() -> None:
    worker = StageWorker("stage", workers=1, waiting=0)
    worker.close()
    assert [worker.call(lambda: 7, deadline=5).problem for _ in range(3)] == ["failed"] * 3
