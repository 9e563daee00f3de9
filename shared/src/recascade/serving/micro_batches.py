"""Requests that arrive together are computed together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class MicroBatches(Generic[Request, Answer]):
    """One thread computes; whoever asks while it does so waits, and is in the next batch with all the others.

    A lone request is computed at once. Under load batches grow by themselves, up to their bound, which is what keeps
    the service from falling behind: a batch costs far less than its requests one by one.

    Args:
        compute: from requests to their answers, in order; called by one thread only.
        most: requests in a batch at most.
        wait_seconds: how long the first request of a batch waits for others; 0 takes those that are there.
    """

    def __init__(
        self, compute: Callable[[Sequence[Request]], Sequence[Answer]], most: int, wait_seconds: float = 0.0
    ) -> None:
        self._compute = compute
        self._most = most
        self._wait = wait_seconds
        self._asked: queue.SimpleQueue[tuple[Request, Future[Answer]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()
        self.batches = 0
        self.requests = 0

    def answer(self, request: Request) -> Answer:
        """Wait for the answer; what ``compute`` raises is raised to every request of its batch."""
        future: Future[Answer] = Future()
        self._asked.put((request, future))
        return future.result()

    def close(self) -> None:
        """Compute what has been asked, then end."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            waiting, open_ = self._gather()
            if not waiting:
                continue
            self.batches += 1
            self.requests += len(waiting)
            try:
                answers = self._compute([request for request, _ in waiting])
            except BaseException as error:
                for _, future in waiting:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(waiting, answers, strict=True):
                    future.set_result(answer)

    def _gather(self) -> tuple[list[tuple[Request, Future[Answer]]], bool]:
        """The next batch, and whether more may follow."""
        waiting: list[tuple[Request, Future[Answer]]] = []
        deadline = 0.0
        while len(waiting) < self._most:
            try:
                if not waiting:
                    asked = self._asked.get()
                    deadline = time.monotonic() + self._wait
                else:
                    left = deadline - time.monotonic()
                    asked = self._asked.get(timeout=left) if left > 0 else self._asked.get_nowait()
            except queue.Empty:
                break
            if asked is None:
                return waiting, False
            waiting.append(asked)
        return waiting, True
