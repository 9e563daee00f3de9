from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, DataError, MissingDependencyError
from recascade.serving.embedding_store import EmbeddingStore, InProcessStore, StoredVectors, StoreUnavailableError
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.redis_store import KEYS_PER_COMMAND, RedisStore


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


Make = Callable[..., EmbeddingStore]


@pytest.fixture(params=["in process", "redis", "redis behind a fallback"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "in process":
        return lambda width=3, version="a", name="": InProcessStore(width, version)
    server = request.getfixturevalue("server")

    def redis(width: int = 3, version: str = "a", name: str = request.node.name) -> EmbeddingStore:
        store = RedisStore(server.url, name, width, version, timeout=1.0)
        return FallbackStore(store) if "fallback" in request.param else store

    return redis


def numbers(count: int, width: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_what_was_written_is_read_bit_by_bit(make: Make) -> None:
    store, vectors = make(), numbers(2)
    assert isinstance(store, EmbeddingStore)
    store.write("user", ["1", "zwei ü"], vectors)
    found = store.read("user", ["zwei ü", "absent", "1", "1"])
    assert found.vectors.dtype == np.float32 and found.found.dtype == np.bool_
    assert found.found.tolist() == [True, False, True, True]
    assert np.array_equal(found.vectors, np.stack([vectors[1], np.zeros(3), vectors[0], vectors[0]]))


def test_sides_are_apart(make: Make) -> None:
    store = make()
    store.write("user", ["1"], numbers(1))
    assert not store.read("item", ["1"]).found.any()


def test_writing_again_changes_nothing_and_the_last_value_stays(make: Make) -> None:
    store, vectors = make(), numbers(3)
    store.write("item", ["1", "2", "1"], vectors)
    store.write("item", ["1", "2", "1"], vectors)
    assert np.array_equal(store.read("item", ["1", "2"]).vectors, vectors[[2, 1]])


def test_the_writers_array_may_change_afterwards(make: Make) -> None:
    store, vectors = make(), numbers(1)
    store.write("user", ["1"], vectors)
    kept = vectors.copy()
    vectors[:] = 7
    read = store.read("user", ["1"]).vectors
    assert np.array_equal(read, kept)
    read[:] = 9
    assert np.array_equal(store.read("user", ["1"]).vectors, kept)


@pytest.mark.parametrize("count", [0, 2 * KEYS_PER_COMMAND + 5])
def test_any_number_of_identifiers(make: Make, count: int) -> None:
    store, vectors, ids = make(), numbers(count), [str(number) for number in range(count)]
    store.write("user", ids, vectors)
    found = store.read("user", ids)
    assert found.found.all() and np.array_equal(found.vectors, vectors) and found.vectors.shape == (count, 3)


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        (numbers(2, 4), r"vectors of 3 numbers.*\(2, 4\).*needs a store of its own"),
        (numbers(1), "for 2 identifiers"),
        (np.array([[0, 0, 0], [0, np.inf, 0]], dtype=np.float32), "vector of 'b'.*nothing was stored"),
    ],
)
def test_what_no_reader_could_use_is_refused(make: Make, vectors: NDArray[np.float32], sentence: str) -> None:
    store = make()
    with pytest.raises(DataError, match=sentence):
        store.write("user", ["a", "b"], vectors)
    assert not store.read("user", ["a", "b"]).found.any()


def test_another_version_reads_zeros_until_it_writes(server: RedisServer) -> None:
    old, new = (RedisStore(server.url, "versions", 3, version) for version in ("ranker 1", "ranker 2"))
    old.write("user", ["1", "2"], numbers(2))
    found = new.read("user", ["1", "2"])
    assert not found.found.any() and not found.vectors.any()
    new.write("user", ["1"], numbers(1, seed=5))
    assert new.read("user", ["1", "2"]).found.tolist() == [True, False]
    assert old.read("user", ["1", "2"]).found.tolist() == [False, True]


def test_an_in_process_store_starts_anew_with_another_version() -> None:
    store = InProcessStore(3, "ranker 1")
    store.write("user", ["1"], numbers(1))
    store.restart("ranker 2")
    assert store.version == "ranker 2" and not store.read("user", ["1"]).found.any()


def test_another_width_under_one_version_is_a_contradiction(server: RedisServer) -> None:
    RedisStore(server.url, "widths", 3, "a").write("user", ["1"], numbers(1))
    with pytest.raises(DataError, match="holds vectors of 3 numbers for version 'a', and this model reads 5"):
        RedisStore(server.url, "widths", 5, "a").read("user", ["0", "1"])
    assert not RedisStore(server.url, "widths", 5, "b").read("user", ["1"]).found.any()


def test_foreign_keys_are_named(server: RedisServer) -> None:
    RedisStore(server.url, "foreign", 3, "a")._client.set("foreign:user:1", "hello, this is something else")
    with pytest.raises(DataError, match="no vector of this library"):
        RedisStore(server.url, "foreign", 3, "a").read("user", ["1"])


def test_a_dead_store_says_where_it_was_looked_for(server: RedisServer) -> None:
    store = RedisStore(server.url, "dead", 3)
    server.signal(signal.SIGKILL)
    with pytest.raises(StoreUnavailableError, match=rf"'dead' at {server.url} could not be read within 0.02 s"):
        store.read("user", ["1"])
    with pytest.raises(StoreUnavailableError, match="could not be written"):
        store.write("user", ["1"], numbers(1))


def test_a_password_stays_out_of_messages() -> None:
    pytest.importorskip("redis")
    store = RedisStore("redis://me:secret@127.0.0.1:1/0", "x", 3)
    with pytest.raises(StoreUnavailableError, match="at redis://127.0.0.1:1/0 could not") as error:
        store.read("user", ["1"])
    assert "secret" not in str(error.value)


def test_a_call_tries_once_so_that_it_costs_one_timeout() -> None:
    pytest.importorskip("redis")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "silent", 3, timeout=0.05)
        with pytest.raises(StoreUnavailableError):
            store.read("user", ["1"])
        silent.settimeout(0.2)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "slow"])
@pytest.mark.parametrize("remembered", [0, 2])
def test_an_outage_is_answered_with_zeros_or_the_last_values(
    server: RedisServer, trouble: int, remembered: int
) -> None:
    now = [0.0]
    # A generous timeout while all is well would hide nothing here: the server is on this machine.
    inner = RedisStore(server.url, f"outage {trouble} {remembered}", 3, timeout=0.5)
    store = FallbackStore(inner, retry_seconds=10.0, remembered=remembered, clock=lambda: now[0])
    vectors = numbers(3)
    store.write("user", ["1", "2", "3"], vectors)
    assert store.read("user", ["1", "2", "3"]).found.all() and store.available
    server.signal(trouble)
    calls = counted_reads(inner)
    found = store.read("user", ["1", "3", "unknown"])
    assert found.found.tolist() == [False, bool(remembered), False]
    assert np.array_equal(found.vectors[1], vectors[2] if remembered else np.zeros(3))
    for _ in range(5):
        store.read("user", ["1"])
    store.write("user", ["1"], vectors[2:])
    assert len(calls) == 1 and store.fallbacks == 6 and store.dropped_writes == 1 and not store.available
    now[0] = 10.5
    store.read("user", ["1"])
    assert len(calls) == 2 and store.fallbacks == 7
    if trouble == signal.SIGKILL:
        server.start()
    else:
        server.signal(signal.SIGCONT)
    now[0] = 20.0
    assert store.fallbacks == 7 and not store.available
    now[0] = 21.0
    store.write("user", ["1"], vectors[2:])
    assert store.available
    assert np.array_equal(store.read("user", ["1"]).vectors, vectors[2:])
    assert store.fallbacks == 7


def counted_reads(store: RedisStore) -> list[str]:
    calls: list[str] = []
    read = store.read

    def count(side, ids) -> StoredVectors:
        calls.append(side)
        return read(side, ids)

    store.read = count  # type: ignore[method-assign]
    return calls


def test_one_call_at_a_time_tries_a_store_that_hangs() -> None:
    class Hanging(InProcessStore):
        tries = 0

        def read(self, side, ids) -> StoredVectors:
            type(self).tries += 1
            release.wait(5)
            raise StoreUnavailableError("hangs")

    release, now = threading.Event(), [0.0]
    store = FallbackStore(Hanging(3), retry_seconds=1.0, clock=lambda: now[0])
    release.set()
    store.read("user", ["1"])
    release.clear()
    now[0] = 2.0
    probe = threading.Thread(target=store.read, args=("user", ["1"]))
    probe.start()
    while Hanging.tries < 2:
        time.sleep(0.001)
    assert not store.read("user", ["1"]).found.any()
    assert Hanging.tries == 2
    release.set()
    probe.join()
    assert store.fallbacks == 3


def test_a_contradiction_is_not_an_outage() -> None:
    store = FallbackStore(InProcessStore(3))
    with pytest.raises(DataError):
        store.write("user", ["1"], numbers(1, 4))
    assert store.available and store.dropped_writes == 0


def test_settings_that_cannot_be_meant() -> None:
    pytest.importorskip("redis")
    with pytest.raises(ConfigurationError, match="'localhost:6379' is not the address"):
        RedisStore("localhost:6379", "x", 3)
    with pytest.raises(ConfigurationError, match="width of stored vectors is 0"):
        InProcessStore(0)


def test_a_missing_client_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "recascade\[redis\]"'):
        RedisStore("redis://localhost", "x", 3)
