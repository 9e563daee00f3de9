"""Residual k-means: each level clusters what the levels before left over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count, takewhile
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.tokenizers.balanced_assignment import balanced_assignment
from recascade.tokenizers.kmeans import fit_centroids, means, nearest, squared_distances
from recascade.tokenizers.vectors import check_room, checked


class ResidualKMeans:
    """RQ-KMeans: plain, balanced, and multi-resolution where ``sizes`` differ (GR4AD §3.1, after PLUM: large to small).

    The code of a vector is greedy: the nearest centroid, then the nearest centroid of the remainder, and so on.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        balanced: bool = False,
        slack: float = 1.0,
        iterations: int = 20,
        balanced_iterations: int = 3,
        sample_per_cluster: int = 256,
        seed: int = 0,
    ) -> None:
        """Choose the layout.

        Args:
            sizes: codes per level.
            balanced: let no code of a level have more than ⌈``slack`` · N / K⌉ of the N fitted items.
            slack: at least 1.
            iterations: of Lloyd's algorithm per level.
            balanced_iterations: of balanced assignment and mean, after those.
            sample_per_cluster: points per centroid that Lloyd's iterations see; balancing sees all.
            seed: of the first centroids and the sample.
        """
        self.balanced = balanced
        self.slack = slack
        self.iterations = iterations
        self.balanced_iterations = balanced_iterations
        self.sample_per_cluster = sample_per_cluster
        self.seed = seed
        self.codebooks: list[Tensor] = []
        self._sizes = tuple(sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level."""
        return self._sizes

    def fit(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Learn one codebook after the other; see the protocol.

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
            centroids = fit_centroids(
                remainder,
                size,
                iterations=self.iterations,
                sample_per_cluster=self.sample_per_cluster,
                generator=generator,
            )
            if self.balanced:
                centroids, assignment = self._balance(remainder, centroids)
            else:
                assignment, _ = nearest(remainder, centroids)
            self.codebooks.append(centroids)
            levels.append(assignment)
            remainder -= centroids[assignment]
        return torch.stack(levels, dim=1).numpy()

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Nearest centroids, level by level; see the protocol."""
        remainder = checked(vectors, self._dimension).clone()
        codes = torch.empty((len(remainder), len(self.sizes)), dtype=torch.int64)
        for level, centroids in enumerate(self.codebooks):
            codes[:, level], _ = nearest(remainder, centroids)
            remainder -= centroids[codes[:, level]]
        return codes.numpy()

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The sum of the codes' centroids; see the protocol."""
        return self._sum(torch.from_numpy(codes), len(self.sizes)).numpy()

    def last_level_distances(self, vectors: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """From what all levels but the last leave over; see the protocol."""
        remainder = checked(vectors, self._dimension) - self._sum(torch.from_numpy(codes), len(self.sizes) - 1)
        return squared_distances(remainder, self.codebooks[-1]).numpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The codebooks float32 ``[K, d]`` as ``codebook-1`` and so on."""
        return {f"codebook-{level}": book.numpy() for level, book in enumerate(self.codebooks, start=1)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Self:
        """See the protocol."""
        names = takewhile(arrays.__contains__, (f"codebook-{level}" for level in count(1)))
        codebooks = [torch.from_numpy(arrays[name]) for name in names]
        tokenizer = cls([len(book) for book in codebooks])
        tokenizer.codebooks = codebooks
        return tokenizer

    @property
    def _dimension(self) -> int:
        return self.codebooks[0].shape[1]

    def _sum(self, codes: Tensor, levels: int) -> Tensor:
        total = torch.zeros((len(codes), self._dimension))
        for level in range(levels):
            total += self.codebooks[level][codes[:, level]]
        return total

    def _balance(self, points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
        capacity = math.ceil(self.slack * len(points) / len(centroids))
        for _ in range(self.balanced_iterations):
            centroids, _ = means(points, balanced_assignment(points, centroids, capacity), centroids)
        return centroids, balanced_assignment(points, centroids, capacity)
