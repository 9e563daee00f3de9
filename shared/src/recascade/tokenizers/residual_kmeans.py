"""Residual k-means: each level clusters what the levels before left over."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recascade.tokenizers.balanced_assignment import balanced_assignment
from recascade.tokenizers.kmeans import fit_centroids, means, nearest
from recascade.tokenizers.residual_quantiser import ResidualQuantiser


class ResidualKMeans(ResidualQuantiser):
    """RQ-KMeans: plain, balanced, and multi-resolution where ``sizes`` differ (GR4AD, after PLUM: large to small).

    >>> import numpy as np
    >>> vectors = np.array([[0, 0], [0, 1], [8, 8], [8, 9]], dtype=np.float32)
    >>> tokenizer = ResidualKMeans([2, 2])
    >>> codes = tokenizer.fit(vectors)
    >>> bool((codes == tokenizer.encode(vectors)).all())
    True
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
        super().__init__(sizes, seed=seed)
        self.balanced = balanced
        self.slack = slack
        self.iterations = iterations
        self.balanced_iterations = balanced_iterations
        self.sample_per_cluster = sample_per_cluster

    def learn_level(self, points: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """k-means, and capped assignment after it where ``balanced``."""
        centroids = fit_centroids(
            points,
            size,
            iterations=self.iterations,
            sample_per_cluster=self.sample_per_cluster,
            generator=generator,
        )
        if not self.balanced:
            return centroids, nearest(points, centroids)[0]
        capacity = math.ceil(self.slack * len(points) / size)
        for _ in range(self.balanced_iterations):
            centroids, _ = means(points, balanced_assignment(points, centroids, capacity), centroids)
        return centroids, balanced_assignment(points, centroids, capacity)
