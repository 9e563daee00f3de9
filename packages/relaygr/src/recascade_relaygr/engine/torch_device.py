"""A device that computes with PyTorch, one thread per lane, and on a GPU one stream per lane."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import torch

from recascade_relaygr.engine.works import TorchWorks
from recascade_relaygr.relay.device import Work


class TorchDevice:
    """Runs the relay's works.

    Args:
        works: what they are.
        lanes: works at a time.
        loop: whose thread is told that a work is done.
    """

    def __init__(self, works: TorchWorks, lanes: int, loop: asyncio.AbstractEventLoop) -> None:
        self.works = works
        self._gpu = works.device.type == "cuda"
        self._loop = loop
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="lane", initializer=self._begin_lane)

    def start(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        """Begin in a free lane."""
        self._pool.submit(self._run, work, done)

    def close(self) -> None:
        """Finish what was begun."""
        self._pool.shutdown()

    def _run(self, work: Work, done: Callable[[Any, BaseException | None, float], None]) -> None:
        result, failure = None, None
        begun = perf_counter()
        try:
            with self._stream():
                result = self.works.compute(work)
                if self._gpu:
                    self._local.stream.synchronize()
        except Exception as error:  # A ranker may fail in any way; the relay then goes another one.
            failure = error
        seconds = perf_counter() - begun
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(done, result, failure, seconds)

    def _begin_lane(self) -> None:
        torch.set_num_threads(1)
        if self._gpu:
            self._local.stream = torch.cuda.Stream(self.works.device)  # type: ignore[no-untyped-call]

    def _stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._local.stream) if self._gpu else nullcontext()
