"""A device that computes with PyTorch, one thread per lane, and on a GPU one stream per lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any

import torch

from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.relay.device import Work

Done = Callable[[Any, BaseException | None, float], None]


class TorchDevice:
    """Runs the relay's works.

    Args:
        works: what they are.
        lanes: works at a time.
        loop: whose thread is told that a work is done.
    """

    def __init__(self, works: TorchWorks, lanes: int, loop: asyncio.AbstractEventLoop) -> None:
        self.works = works
        self._loop = loop
        self._waiting: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._threads = [Thread(target=self._lane, name=f"lane-{number}", daemon=True) for number in range(lanes)]
        for thread in self._threads:
            thread.start()

    def start(self, work: Work, done: Done) -> None:
        """Begin in a free lane."""
        self._waiting.put((work, done))

    def close(self) -> None:
        """Finish what was begun."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _lane(self) -> None:
        torch.set_num_threads(1)
        gpu = self.works.device.type == "cuda"
        stream = torch.cuda.Stream(self.works.device) if gpu else None  # type: ignore[no-untyped-call]
        # Without a GPU this context does nothing.
        with torch.cuda.stream(stream):
            while (waiting := self._waiting.get()) is not None:
                self._run(*waiting, stream)

    def _run(self, work: Work, done: Done, stream: torch.cuda.Stream | None) -> None:
        result, failure = None, None
        begun = perf_counter()
        try:
            result = self.works.compute(work)
            if stream is not None:
                stream.synchronize()
        except Exception as error:  # A ranker may fail in any way; the relay then goes another one.
            failure = error
        seconds = perf_counter() - begun
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(done, result, failure, seconds)
