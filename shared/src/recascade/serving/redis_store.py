"""An embedding store in Redis: shared by every process that writes, trains or serves."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, DataError, MissingDependencyError
from recascade.serving.embedding_store import Side, StoredVectors, StoreUnavailableError, check_vectors, check_width

KEYS_PER_COMMAND = 1024
"""Redis serves nobody else during one command."""


class RedisStore:
    """Vectors as little-endian float32 under the keys ``NAME:user:ID`` and ``NAME:item:ID``.

    Eight bytes stand before the numbers: the width and a checksum of the version, both uint32. A read of n identifiers
    is one round trip of MGET commands, a write one of MSET commands; nothing is tried twice, so that a call takes about
    ``timeout`` seconds at most. Keys do not expire: let Redis evict (``maxmemory-policy allkeys-lru``) if it must; an
    evicted identifier reads as zeros.

    Args:
        url: such as ``redis://localhost:6379/0``.
        name: prefix of all keys.
        width: w, numbers in a vector.
        version: of the model that writes.
        timeout: seconds to wait for a connection or an answer; 0.02 (our choice; the paper's store is reported to
            answer within 5 ms at the 99th percentile).

    Raises:
        MissingDependencyError: the Redis client is not installed.
        ConfigurationError: ``url`` is not the address of a Redis server.
    """

    remote = True

    def __init__(self, url: str, name: str, width: int, version: str = "", timeout: float = 0.02) -> None:
        check_width(width)
        self._redis = _import_redis()
        parts = urlsplit(url)
        # Messages go to logs, where no password belongs.
        self.address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self.name = name
        self.width = width
        self.version = version
        self.timeout = timeout
        self._row = np.dtype([("width", "<u4"), ("stamp", "<u4"), ("vector", "<f4", (width,))])
        self._nothing = bytes(self._row.itemsize)
        self._stamp = zlib.crc32(version.encode())
        try:
            self._client = self._redis.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigurationError(
                f"{self.address!r} is not the address of a Redis server ({error}); write redis://HOST:PORT/0."
            ) from error

    def read(self, side: Side, ids: Sequence[str]) -> StoredVectors:
        """The vectors of these identifiers; zeros where nothing, or only another version's vector, is stored."""
        if not ids:
            return StoredVectors.absent(0, self.width)
        keys = self._keys(side, ids)
        with self._patience("read"):
            if len(keys) <= KEYS_PER_COMMAND:
                values = self._client.mget(keys)
            else:
                pipeline = self._client.pipeline(transaction=False)
                for start in range(0, len(keys), KEYS_PER_COMMAND):
                    pipeline.mget(keys[start : start + KEYS_PER_COMMAND])
                values = [value for part in pipeline.execute() for value in part]
        size = self._row.itemsize
        whole = [value if value is not None and len(value) == size else self._nothing for value in values]
        rows = np.frombuffer(b"".join(whole), dtype=self._row)
        found = (rows["width"] == self.width) & (rows["stamp"] == self._stamp)
        if not found.all():
            self._check_others(ids, values)
        return StoredVectors(np.where(found[:, None], rows["vector"], np.float32(0)), found)

    def write(self, side: Side, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Set the vectors."""
        check_vectors(ids, vectors, self.width)
        if not ids:
            return
        rows = np.empty(len(ids), dtype=self._row)
        rows["width"], rows["stamp"], rows["vector"] = self.width, self._stamp, vectors
        values = rows.view(f"V{self._row.itemsize}").tolist()
        pairs = list(zip(self._keys(side, ids), values, strict=True))
        with self._patience("written"):
            pipeline = self._client.pipeline(transaction=False)
            for start in range(0, len(pairs), KEYS_PER_COMMAND):
                pipeline.mset(dict(pairs[start : start + KEYS_PER_COMMAND]))
            pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _keys(self, side: Side, ids: Sequence[str]) -> list[str]:
        prefix = f"{self.name}:{side}:"
        return [prefix + identifier for identifier in ids]

    def _check_others(self, ids: Sequence[str], values: Sequence[bytes | None]) -> None:
        """A vector of this version must have this width: two settings of one name contradict each other."""
        for identifier, value in zip(ids, values, strict=True):
            if value is None:
                continue
            width, stamp = np.frombuffer(value[:8], dtype="<u4").tolist() if len(value) >= 8 else (0, 0)
            if len(value) != 8 + 4 * width or not width:
                raise DataError(
                    f"What {self.address} holds for {identifier!r} under {self.name!r} is no vector of this library; "
                    "choose another name for the store."
                )
            if stamp == self._stamp and width != self.width:
                raise DataError(
                    f"The store {self.name!r} at {self.address} holds vectors of {width} numbers for version "
                    f"{self.version!r}, and this model reads {self.width}; give the ranker that writes them another "
                    "version, or the store another name."
                )

    @contextmanager
    def _patience(self, done: str) -> Iterator[None]:
        try:
            yield
        except (self._redis.exceptions.RedisError, OSError) as error:
            raise StoreUnavailableError(
                f"The store {self.name!r} at {self.address} could not be {done} within {self.timeout:g} s ({error}); "
                "see whether its server runs."
            ) from error


def _import_redis() -> Any:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ImportError as error:
        raise MissingDependencyError('The Redis store needs its client: pip install "recascade[redis]"') from error
    return redis
