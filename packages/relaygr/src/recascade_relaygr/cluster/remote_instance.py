"""A replica as the gateway sees it: an instance whose answers take a message each way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from recascade_relaygr.cluster.held_prefixes import HeldPrefixes
from recascade_relaygr.cluster.ray_router import session_of
from recascade_relaygr.relay.requests import InstanceGoneError, Outcome, OwnerLoad, PrefixKey, RankRequest, Signal

_log = logging.getLogger(__name__)


class RemoteInstance:
    """One replica, asked through the deployment's handle.

    Args:
        name: of the replica.
        handle: ``DeploymentHandle`` of Ray Serve.
        loop: on whose thread everything is called.
        held: what answers tell of all replicas' memories.
        patience: seconds beyond a request's deadline after which its answer is no longer awaited.
        load: as it was reported.

    Attributes:
        latest: load as the replica told it last, dated by the gateway's clock.
    """

    def __init__(
        self,
        name: str,
        handle: Any,
        loop: asyncio.AbstractEventLoop,
        held: HeldPrefixes,
        patience: float,
        load: OwnerLoad,
    ) -> None:
        self.name = name
        self._held = held
        self.patience = patience
        self._handle = handle
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[str, asyncio.Task[None]] = {}
        self.tell(load)

    def tell(self, load: OwnerLoad) -> None:
        """A report has come."""
        self.latest = replace(load, measured=self._loop.time())

    def load(self) -> OwnerLoad:
        """What was told last."""
        return self.latest

    def held(self, key: PrefixKey, fingerprint: bytes) -> str:
        """What the replica should have of a prefix."""
        return self._held.held(self.name, key, fingerprint, self._loop.time())

    def signal(self, signal: Signal) -> None:
        """Send a signal and wait for nothing; one that is lost costs no more than the prefix that it would have run."""

        async def send() -> None:
            try:
                _, load = await self._to(signal.key.user).signal.remote(self._relative(signal))
                self.tell(load)
            except (RayError, RayServeException) as error:
                _log.warning("a signal to replica %s was lost: %s", self.name, error)

        self._start(send())

    def rank(self, request: RankRequest, done: Callable[[Outcome], None]) -> None:
        """Have candidates scored; a replica that has gone, or does not answer, gives an ``InstanceGoneError``."""

        async def ask() -> None:
            relative = self._relative(request)
            response = self._to(request.key.user).rank.remote(relative)
            try:
                name, outcome, load = await asyncio.wait_for(response, relative.deadline + self.patience)
                if name == self.name:
                    self.tell(load)
                done(outcome)
            except (RayError, RayServeException, TimeoutError) as error:
                _log.warning("replica %s did not answer: %s", self.name, error)
                gone = InstanceGoneError(f"Replica {self.name} did not answer; another one is asked.")
                done(Outcome("full", None, 0, 0.0, 0.0, gone))
            finally:
                self._asked.pop(request.request, None)

        self._asked[request.request] = self._start(ask())

    def cancel(self, request: str) -> None:
        """Nobody waits for this request any more."""
        task = self._asked.pop(request, None)
        if task is not None:
            task.cancel()

    def _to(self, user: str) -> Any:
        return self._handle.options(session_id=session_of(self.name, user))

    def _relative(self, request: Any) -> Any:
        """With the seconds that are left in place of the deadline, since clocks differ."""
        return replace(request, deadline=max(request.deadline - self._loop.time(), 0.0))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        # The loop itself keeps only weak references.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
