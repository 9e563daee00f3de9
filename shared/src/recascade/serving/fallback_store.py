"""A store that always answers: when the one behind it is down or slow, with zeros or with what it said last."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from recascade.serving.embedding_store import EmbeddingStore, Side, StoredVectors, StoreUnavailableError

_log = logging.getLogger(__name__)


class FallbackStore:
    """Keeps the trouble of a store away from requests (a circuit breaker).

    After a failure the store is left alone for ``retry_seconds``; then one call tries it, while all others go on
    without. So a dead store costs one timeout per ``retry_seconds``, not one per request. Zeros are what a tower has
    learnt to read of users without vectors. Vectors that could not be written are dropped: values are absolute, and the
    next write of the same identifier makes it good.

    Args:
        store: what is asked.
        retry_seconds: how long it is left alone after a failure.
        remembered: identifiers whose latest vectors are kept to answer with during an outage, least recently used ones
            forgotten first; 0 answers with zeros.
        clock: seconds that only go forward.

    Attributes:
        fallbacks: reads that were answered without the store.
        dropped_writes: writes that were dropped.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        *,
        retry_seconds: float = 1.0,
        remembered: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.width = store.width
        self.version = store.version
        self.remote = store.remote
        self.fallbacks = 0
        self.dropped_writes = 0
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._lock = Lock()
        self._failed = False
        self._next_try = 0.0
        self._remembered = remembered
        self._memory: OrderedDict[tuple[Side, str], NDArray[np.float32]] = OrderedDict()

    @property
    def available(self) -> bool:
        """Whether the store answered when it was last asked."""
        return not self._failed

    def read(self, side: Side, ids: Sequence[str]) -> StoredVectors:
        """The vectors of these identifiers; never raises ``StoreUnavailableError``."""
        if not self._failed or self._may_try():
            try:
                result = self.store.read(side, ids)
            except StoreUnavailableError as error:
                self._give_up(error)
            else:
                if self._failed:
                    self._recover()
                if self._remembered:
                    self._remember(side, ids, result)
                return result
        with self._lock:
            self.fallbacks += 1
        return self._recall(side, ids)

    def write(self, side: Side, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Set the vectors, or drop them; never raises ``StoreUnavailableError``."""
        if not self._failed or self._may_try():
            try:
                self.store.write(side, ids, vectors)
            except StoreUnavailableError as error:
                self._give_up(error)
            else:
                if self._failed:
                    self._recover()
                return
        with self._lock:
            self.dropped_writes += 1

    def _may_try(self) -> bool:
        """Whether it is this call's turn to see if the store is back."""
        with self._lock:
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + self._retry_seconds
            return True

    def _give_up(self, error: StoreUnavailableError) -> None:
        with self._lock:
            if not self._failed:
                _log.warning("%s Answering without it, and trying again every %g s.", error, self._retry_seconds)
            self._failed = True
            self._next_try = self._clock() + self._retry_seconds

    def _recover(self) -> None:
        with self._lock:
            self._failed = False
        _log.warning("The store answers again.")

    def _remember(self, side: Side, ids: Sequence[str], result: StoredVectors) -> None:
        with self._lock:
            for identifier, vector, found in zip(ids, result.vectors, result.found, strict=True):
                if found:
                    self._memory[side, identifier] = vector.copy()
                    self._memory.move_to_end((side, identifier))
            while len(self._memory) > self._remembered:
                self._memory.popitem(last=False)

    def _recall(self, side: Side, ids: Sequence[str]) -> StoredVectors:
        result = StoredVectors.absent(len(ids), self.width)
        if self._remembered:
            with self._lock:
                for place, identifier in enumerate(ids):
                    vector = self._memory.get((side, identifier))
                    if vector is not None:
                        result.vectors[place], result.found[place] = vector, True
        return result
