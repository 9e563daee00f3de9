"""Optimised product quantisation: a rotation, then k-means in each of L equal parts of the vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.errors import ConfigurationError
from recascade.tokenizers.kmeans import fit_centroids, means, nearest, squared_distances
from recascade.tokenizers.residual_codes import codebooks_of, named_codebooks
from recascade.tokenizers.vectors import check_room, checked


class ProductCodes:
    """OPQ (Ge et al., CVPR 2013, the non-parametric solution), as RPG tokenises items with.

    Level l is the nearest centroid in part l of the rotated vector: levels are independent, none refines another. The
    rotation begins as the principal directions, dealt out to the parts in turn (our choice), and is then improved in
    turn with the centroids: for fixed codes the best rotation solves an orthogonal Procrustes problem.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        iterations: int = 20,
        rotations: int = 10,
        sample_per_cluster: int = 256,
        seed: int = 0,
    ) -> None:
        """Choose the layout.

        Args:
            sizes: codes per level.
            iterations: of the first k-means of each part.
            rotations: improvements of the rotation, each with one more iteration of k-means; 0 keeps the first one.
            sample_per_cluster: vectors per code that all this sees.
            seed: of the first centroids and the sample.
        """
        self.sizes = tuple(sizes)
        self.iterations = iterations
        self.rotations = rotations
        self.sample_per_cluster = sample_per_cluster
        self.seed = seed
        self.rotation = torch.empty(0, 0)
        self.codebooks: list[Tensor] = []

    def fit(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Learn rotation and codebooks; see the protocol.

        Raises:
            DataError: the vectors cannot be used.
            ConfigurationError: a level has more codes than there are vectors, or the vectors cannot be cut into L equal
                parts.
        """
        points = checked(vectors)
        check_room(self.sizes, len(points))
        if points.shape[1] % len(self.sizes):
            raise ConfigurationError(
                f"product-codes cuts vectors of {points.shape[1]} numbers into {len(self.sizes)} equal parts, which is "
                "impossible; set tokenizer.content.dimension to a multiple of the number of levels."
            )
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(points), generator=generator)
        sample = points[order[: max(self.sizes) * self.sample_per_cluster]]
        self.rotation = self._first_rotation(sample)
        self.codebooks = [
            fit_centroids(
                part,
                size,
                iterations=self.iterations,
                sample_per_cluster=self.sample_per_cluster,
                generator=generator,
            )
            for part, size in zip(self._parts(sample), self.sizes, strict=True)
        ]
        for _ in range(self.rotations):
            self._improve(sample)
        return self.encode(vectors)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """The nearest centroid of each part; see the protocol."""
        parts = self._parts(checked(vectors, len(self.rotation)))
        levels = [nearest(part, book)[0] for part, book in zip(parts, self.codebooks, strict=True)]
        return torch.stack(levels, dim=1).numpy()

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The centroids side by side, rotated back; see the protocol."""
        return (self._side_by_side(torch.from_numpy(codes)) @ self.rotation.T).numpy()

    def last_level_distances(self, vectors: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """In the last part; see the protocol."""
        return squared_distances(self._parts(checked(vectors, len(self.rotation)))[-1], self.codebooks[-1]).numpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The codebooks float32 ``[K, d / L]`` and the rotation float32 ``[d, d]``; see the protocol."""
        return named_codebooks(self.codebooks) | {"rotation": self.rotation.numpy()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Self:
        """See the protocol."""
        codebooks = codebooks_of(arrays)
        tokenizer = cls([len(book) for book in codebooks])
        tokenizer.codebooks = codebooks
        tokenizer.rotation = torch.from_numpy(arrays["rotation"])
        return tokenizer

    def _first_rotation(self, points: Tensor) -> Tensor:
        """Principal directions float32 ``[d, d]`` in columns; part l gets those of rank l, l + L, l + 2 L …"""
        centred = points - points.mean(dim=0)
        strongest_first: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)
        dealt = torch.arange(points.shape[1]).reshape(-1, len(self.sizes)).T.reshape(-1)
        return strongest_first[:, dealt].contiguous()

    def _parts(self, points: Tensor) -> list[Tensor]:
        rotated = points @ self.rotation
        return [part.contiguous() for part in rotated.chunk(len(self.sizes), dim=1)]

    def _side_by_side(self, codes: Tensor) -> Tensor:
        return torch.cat([book[codes[:, level]] for level, book in enumerate(self.codebooks)], dim=1)

    def _improve(self, points: Tensor) -> None:
        parts = self._parts(points)
        codes = torch.stack([nearest(part, book)[0] for part, book in zip(parts, self.codebooks, strict=True)], dim=1)
        self.codebooks = [
            means(part, codes[:, level], book)[0]
            for level, (part, book) in enumerate(zip(parts, self.codebooks, strict=True))
        ]
        left, _, right = torch.linalg.svd(points.T @ self._side_by_side(codes))
        self.rotation = (left @ right).contiguous()
