"""Vectors that one model writes and others read, by side and identifier, such as the cascade vectors of a ranker."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError, DataError, RecascadeError

Side = Literal["user", "item"]


class StoreUnavailableError(RecascadeError):
    """The store does not answer, or not in time."""


class StoredVectors(NamedTuple):
    """What a store holds of n identifiers.

    ``vectors`` float32 ``[n, w]``, zeros where nothing is stored; ``found`` bool ``[n]``.
    """

    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]

    @classmethod
    def absent(cls, count: int, width: int) -> StoredVectors:
        """Zeros for so many identifiers."""
        return cls(np.zeros((count, width), dtype=np.float32), np.zeros(count, dtype=np.bool_))


@runtime_checkable
class EmbeddingStore(Protocol):
    """Vectors of users and of items, each under its identifier.

    Values are absolute, so that writing them again changes nothing. Every vector carries the version of what wrote it;
    a reader of another version gets zeros for it, as if nothing were stored: vectors of two models must not be mixed,
    and a new model starts cold.

    Attributes:
        width: w, numbers in a vector.
        version: of the model that the vectors come from.
        remote: whether a read waits for something outside this process.
    """

    width: int
    version: str
    remote: bool

    def read(self, side: Side, ids: Sequence[str]) -> StoredVectors:
        """The vectors of these identifiers.

        Raises:
            StoreUnavailableError: the store does not answer in time.
            DataError: the store holds vectors of this version and another width.
        """
        ...

    def write(self, side: Side, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Set the vectors, float32 ``[n, w]``; of an identifier given twice the last one stays.

        Raises:
            StoreUnavailableError: the store does not answer in time; some of the vectors may have been written.
            DataError: the vectors have another shape, or a value that is not finite.
        """
        ...


class InProcessStore:
    """The store for one process: two dictionaries.

    Args:
        width: numbers in a vector.
        version: of the model that writes.
    """

    remote = False

    def __init__(self, width: int, version: str = "") -> None:
        check_width(width)
        self.width = width
        self.version = version
        self._rows: dict[Side, dict[str, NDArray[np.float32]]] = {"user": {}, "item": {}}
        self._writing = Lock()

    def read(self, side: Side, ids: Sequence[str]) -> StoredVectors:
        """The vectors of these identifiers."""
        result = StoredVectors.absent(len(ids), self.width)
        rows = self._rows[side]
        for place, identifier in enumerate(ids):
            vector = rows.get(identifier)
            if vector is not None:
                result.vectors[place] = vector
                result.found[place] = True
        return result

    def write(self, side: Side, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Set the vectors."""
        check_vectors(ids, vectors, self.width)
        with self._writing:
            self._rows[side].update(zip(ids, vectors.copy(), strict=True))

    def restart(self, version: str) -> None:
        """Forget everything: from now on another model writes."""
        with self._writing:
            self._rows = {"user": {}, "item": {}}
            self.version = version


def check_width(width: int) -> None:
    """Refuse a width below 1.

    Raises:
        ConfigurationError: naming the value.
    """
    if width < 1:
        raise ConfigurationError(f"The width of stored vectors is {width}; it must be 1 or more.")


def check_vectors(ids: Sequence[str], vectors: NDArray[np.float32], width: int) -> None:
    """Refuse to write what a reader could not use.

    Raises:
        DataError: another shape than ``[len(ids), width]``, or a value that is not finite.
    """
    if vectors.shape != (len(ids), width):
        raise DataError(
            f"The store holds vectors of {width} numbers and was given an array of shape {vectors.shape} for "
            f"{len(ids)} identifiers. A ranker of another hidden width needs a store of its own (another name)."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(
            f"The vector of {ids[int(np.argmin(finite))]!r} has a value that is no finite number; nothing was stored."
        )
