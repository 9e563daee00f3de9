from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, DataError, MissingDependencyError
from recascade.serving.embedding_store import EmbeddingStore, InProcessStore, StoreUnavailableError
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.redis_store import KEYS_PER_COMMAND, RedisStore

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


def test_another_version_reads_zeros_until_it_writes(server: Any) -> None:
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


def test_another_width_under_one_version_is_a_contradiction(server: Any) -> None:
    RedisStore(server.url, "widths", 3, "a").write("user", ["1"], numbers(1))
    with pytest.raises(DataError, match="holds vectors of 3 numbers for version 'a', and this model reads 5"):
        RedisStore(server.url, "widths", 5, "a").read("user", ["0", "1"])
    assert not RedisStore(server.url, "widths", 5, "b").read("user", ["1"]).found.any()


def test_foreign_keys_are_named(server: Any) -> None:
    RedisStore(server.url, "foreign", 3, "a")._client.set("foreign:user:1", "hello, this is something else")
    with pytest.raises(DataError, match="no vector of this library"):
        RedisStore(server.url, "foreign", 3, "a").read("user", ["1"])


def test_a_dead_store_says_where_it_was_looked_for(server: Any) -> None:
    store = RedisStore(server.url, "dead", 3)
    server.signal(signal.SIGKILL)
    with pytest.raises(StoreUnavailableError, match=rf"'dead' at {server.url} could not be read within 0.02 s"):
        store.read("user", ["1"])
    with pytest.raises(StoreUnavailableError, match="could not be written"):
        store.write("user", ["1"], numbers(1))


def test_a_password_stays_out_of_messages() -> None:
    pytest.importorskip("redis")
    store = RedisStore("redis://me:secret@127.0.0.1:1/0", "x", 3)
    with pytest.raises(StoreUnavailableError, match=r"at redis://127\.0\.0\.1:1/0 could not") as error:
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
