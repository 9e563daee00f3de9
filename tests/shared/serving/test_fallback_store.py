from __future__ import annotations

import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recascade.errors import DataError
from recascade.serving.embedding_store import InProcessStore, StoredVectors, StoreUnavailableError
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.redis_store import RedisStore


def numbers(count: int, width: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "slow"])
@pytest.mark.parametrize("remembered", [0, 2])
def test_an_outage_is_answered_with_zeros_or_the_last_values(server: Any, trouble: int, remembered: int) -> None:
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
