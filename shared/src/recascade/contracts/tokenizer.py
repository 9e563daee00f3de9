"""From vectors to codes: what every quantiser of semantic ids can do."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Tokenizer(Protocol):
    """Turns vectors of d numbers into codes of L levels; level l has codes 0…sizes[l] - 1.

    After ``fit`` nothing in it changes any more, so that new items get codes without moving the old ones.
    """

    sizes: tuple[int, ...]
    """Codes per level, L numbers."""

    def fit(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Learn the codebooks from float32 ``[N, d]`` and return the codes of these vectors, int64 ``[N, L]``.

        They equal ``encode(vectors)``, except that a balanced quantiser may have moved a vector from its nearest code
        to one with room.
        """
        ...

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Codes int64 ``[N, L]`` of float32 ``[N, d]``, with the learned codebooks as they are."""
        ...

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors float32 ``[N, d]`` that codes int64 ``[N, L]`` stand for."""
        ...

    def last_level_distances(self, vectors: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """How far each vector is from each code of the last level, given its codes of the levels before.

        Args:
            vectors: float32 ``[N, d]``.
            codes: int64 ``[N, L]``; the last column is not read.

        Returns:
            Squared distances, float32 ``[N, sizes[-1]]``.
        """
        ...

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Everything learned, by name: what a file keeps."""
        ...

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Self:
        """The tokenizer whose ``arrays`` these are."""
        ...
