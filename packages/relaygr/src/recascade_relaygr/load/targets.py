"""What a load can be sent to: an engine in this process, or a service over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import torch

from recascade.errors import ConfigurationError, DataError
from recascade_relaygr.engine.engine import RelayEngine
from recascade_relaygr.relay.requests import Ticket
from recascade_relaygr.run_folder import ServedRun, request_of

_TIMEOUT_SECONDS = 60.0


class EngineTarget:
    """An engine on the loop that sends the load.

    Args:
        engine: with ``hint`` and ``rank``.
        run: whose users and items are named.
    """

    def __init__(self, engine: RelayEngine, run: ServedRun) -> None:
        self.engine = engine
        self.run = run

    async def hint(self, user: str, candidates: int) -> Ticket:
        """See ``RelayEngine.hint``."""
        return self.engine.hint(user, self._history(user), candidates)

    async def rank(self, user: str, items: Sequence[str], ticket: Ticket | None) -> str:
        """See ``RelayEngine.rank``."""
        numbers = torch.tensor([self.run.items[item] for item in items], dtype=torch.int64)
        answer = await self.engine.rank(user, self._history(user), numbers, ticket)
        return answer.path

    def _history(self, user: str) -> Any:
        return self.run.histories.get(user) or request_of([], [])


class HttpTarget:
    """A service of ``recascade serve relaygr``.

    Args:
        url: as the service tells it, such as ``http://127.0.0.1:8000``.
        connections: at a time; each is kept open.

    Raises:
        ConfigurationError: the URL is not one of HTTP.
    """

    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no address of a service; give one such as http://127.0.0.1:8000.")
        self._host, self._port = parts.hostname, parts.port or 80
        self._pool = ThreadPoolExecutor(connections, "load")
        self._local = threading.local()

    async def hint(self, user: str, candidates: int) -> str:
        """``POST /hint``."""
        answer = await self._post("/hint", {"user": user, "candidates": candidates})
        return str(answer["ticket"])

    async def rank(self, user: str, items: Sequence[str], ticket: str | None) -> str:
        """``POST /rank``."""
        content = {"user": user, "items": list(items)} | ({} if ticket is None else {"ticket": ticket})
        return str((await self._post("/rank", content))["path"])

    def close(self) -> None:
        """Close what is not in use."""
        self._pool.shutdown()

    async def _post(self, path: str, content: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, path, content)

    def _ask(self, path: str, content: Any) -> Any:
        reused = getattr(self._local, "connection", None) is not None
        try:
            status, answer = self._exchange(path, content)
        except (BrokenPipeError, ConnectionResetError):
            if not reused:
                raise
            # The service has closed what was idle for long, which is no failure of a request.
            status, answer = self._exchange(path, content)
        if status != 200:
            raise DataError(f"The service answered {status}: {answer.get('error', answer)}")
        return answer

    def _exchange(self, path: str, content: Any) -> tuple[int, Any]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
            self._local.connection = connection
        try:
            connection.request("POST", path, json.dumps(content), {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            self._local.connection = None
            raise
