"""What residual k-means and residual vector quantisation share: everything but how one level is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.tokenizers.kmeans import squared_distances
from recascade.tokenizers.residual_codes import codebooks_of, named_codebooks, residual_codes, sum_of_codes
from recascade.tokenizers.vectors import check_room, checked


class ResidualQuantiser(ABC):
    """Learns one codebook after the other, each on what those before left over; fulfils ``Tokenizer``."""

    def __init__(self, sizes: Sequence[int], *, seed: int = 0) -> None:
        """Choose the codes per level and the seed of every random choice."""
        self.sizes = tuple(sizes)
        self.seed = seed
        self.codebooks: list[Tensor] = []

    @abstractmethod
    def learn_level(self, points: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The codebook float32 ``[size, d]`` for points float32 ``[N, d]``, and the code of each, int64 ``[N]``."""

    def fit(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Learn the codebooks; see the protocol.

        Raises:
            DataError: the vectors cannot be used.
            ConfigurationError: a level has more codes than there are vectors.
        """
        remainder = checked(vectors).clone()
        check_room(self.sizes, len(remainder))
        generator = torch.Generator().manual_seed(self.seed)
        self.codebooks = []
        levels = []
        for size in self.sizes:
            codebook, assignment = self.learn_level(remainder, size, generator)
            self.codebooks.append(codebook)
            levels.append(assignment)
            remainder -= codebook[assignment]
        return torch.stack(levels, dim=1).numpy()

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Nearest rows, level by level; see the protocol."""
        return residual_codes(checked(vectors, self.codebooks[0].shape[1]), self.codebooks).numpy()

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The sum of the levels' rows; see the protocol."""
        return sum_of_codes(torch.from_numpy(codes), self.codebooks, len(self.sizes)).numpy()

    def last_level_distances(self, vectors: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """From what all levels but the last leave over; see the protocol."""
        points = checked(vectors, self.codebooks[0].shape[1])
        remainder = points - sum_of_codes(torch.from_numpy(codes), self.codebooks, len(self.sizes) - 1)
        return squared_distances(remainder, self.codebooks[-1]).numpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The codebooks; see the protocol."""
        return named_codebooks(self.codebooks)

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Self:
        """See the protocol."""
        codebooks = codebooks_of(arrays)
        tokenizer = cls([len(book) for book in codebooks])
        tokenizer.codebooks = codebooks
        return tokenizer
