"""An application that answers on a port of this machine while a test asks it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import uvicorn

Ask = Callable[..., tuple[int, Any]]


@contextmanager
def answering(application: Any) -> Iterator[Ask]:
    """Serve in a thread; gives ``ask(method, path, content, headers) -> status, answer``."""

    def ask(
        method: str, path: str, content: Any = None, headers: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request(method, path, None if content is None else json.dumps(content), dict(headers))
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text

    with listening(application) as url:
        host = url.removeprefix("http://")
        yield ask


@contextmanager
def listening(application: Any) -> Iterator[str]:
    """Serve in a thread; gives the URL."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    # uvicorn tells of its start by this flag alone.
    while not server.started:
        time.sleep(0.005)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()
