"""A real Redis server for the tests of stores; they are skipped, and say so, where there is none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recascade.serving.embedding_store import StoreUnavailableError
from recascade.serving.redis_store import RedisStore


class RedisServer:
    """A real server, that can die, hang and come back at the same address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(words, cwd=self.folder, stdout=subprocess.DEVNULL)
        store = RedisStore(self.url, "waiting", 1, timeout=0.2)
        for _ in range(200):
            try:
                store.read("user", ["x"])
            except StoreUnavailableError:
                time.sleep(0.02)
            else:
                break
        store.close()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: RedisServer) -> Iterator[RedisServer]:
    """The server, in good health before and after the test."""
    yield shared_server
    if shared_server.process.poll() is not None:
        shared_server.start()
    os.kill(shared_server.process.pid, signal.SIGCONT)
