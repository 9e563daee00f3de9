"""Residual vector quantisation with codebooks learned by gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recascade.tokenizers.kmeans import fit_centroids, nearest
from recascade.tokenizers.perceptron import batches
from recascade.tokenizers.residual_quantiser import ResidualQuantiser

_FIRST_ITERATIONS = 5


class ResidualVQ(ResidualQuantiser):
    """R-VQ as GRID trains it: one codebook after the other by gradient steps on |point − nearest row|² (van den Oord).

    GRID also scales what is left over to length 1 before each level; here it is left as it is, so that codes add up to
    the vector. The rows begin as five iterations of k-means (our choice), since rows that begin far from all points
    would never be nearest and so never learn.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        steps: int = 1000,
        batch: int = 1024,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        """Choose the layout and the training.

        Args:
            sizes: codes per level.
            steps: of Adam per level.
            batch: vectors per step.
            learning_rate: relative to the root mean square of what a level is given, so that scale does not matter.
            seed: of the first rows and the batches.
        """
        super().__init__(sizes, seed=seed)
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate

    def learn_level(self, points: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Adam on batches."""
        start = fit_centroids(
            points, size, iterations=_FIRST_ITERATIONS, sample_per_cluster=self.batch, generator=generator
        )
        codebook = start.requires_grad_()
        scale = float(points.square().mean().sqrt())
        optimizer = torch.optim.Adam([codebook], lr=self.learning_rate * scale)
        for rows in batches(len(points), self.batch, self.steps, generator):
            batch = points[rows]
            with torch.no_grad():
                codes, _ = nearest(batch, codebook)
            optimizer.zero_grad()
            torch.autograd.backward((batch - codebook[codes]).square().sum(dim=1).mean())
            optimizer.step()
        learned = codebook.detach()
        return learned, nearest(points, learned)[0]
