"""An engine on an event loop in a thread of its own, for callers from other threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, Generic, TypeVar

from recascade_relaygr.engine.front import Engine

Result = TypeVar("Result")
EngineType = TypeVar("EngineType", bound=Engine)


class EngineHost(Generic[EngineType]):
    """Makes an engine and keeps its loop running until ``close``.

    Args:
        make: makes the engine; called on the loop's thread, and its errors are raised here.
    """

    def __init__(self, make: Callable[[], EngineType]) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="relay", daemon=True)
        self._thread.start()

        async def begin() -> EngineType:
            return make()

        try:
            self.engine = self.wait(begin())
        except BaseException:
            self._stop()
            raise

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the engine's loop and wait for its result."""
        future: Future[Result] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result()

    def call(self, function: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Call a function on the loop's thread and wait for its result."""

        async def run() -> Result:
            return function(*arguments, **named)

        return self.wait(run())

    def close(self) -> None:
        """Finish what was begun; who still waits is told that nothing comes (``concurrent.futures.CancelledError``)."""
        self.engine.close()
        self._stop()

    def _stop(self) -> None:
        async def end() -> None:
            waiting = asyncio.all_tasks() - {asyncio.current_task()}
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        self.wait(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
