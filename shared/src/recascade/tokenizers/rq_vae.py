"""RQ-VAE: an autoencoder whose latent vector is quantised level by level, all trained together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, takewhile
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recascade.tokenizers.kmeans import fit_centroids, nearest, squared_distances
from recascade.tokenizers.perceptron import batches, perceptron
from recascade.tokenizers.residual_codes import codebooks_of, named_codebooks, residual_codes, sum_of_codes
from recascade.tokenizers.vectors import check_room, checked

_FIRST_ITERATIONS = 10


class RQVAE:
    """The tokenizer of TIGER (Rajput et al., NeurIPS 2023): reconstruction + codebook + β · commitment loss.

    From the paper: perceptrons with ReLU, the straight-through gradient, codebooks begun by k-means on encoded items,
    β = 0.25, latent width 32. Ours: Adam (the paper: Adagrad with rate 0.4), far fewer steps, codebooks begun on a
    large sample and not on the first batch, and vectors divided by their root mean square.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        latent: int = 32,
        hidden: Sequence[int] = (256, 128),
        steps: int = 1000,
        batch: int = 1024,
        learning_rate: float = 1e-3,
        commitment: float = 0.25,
        seed: int = 0,
    ) -> None:
        """Choose the layout and the training.

        Args:
            sizes: codes per level.
            latent: width of what is quantised.
            hidden: widths of the encoder's hidden layers; the decoder has them reversed.
            steps: of Adam.
            batch: vectors per step.
            learning_rate: of Adam.
            commitment: β.
            seed: of weights, first rows and batches.
        """
        self.sizes = tuple(sizes)
        self.latent = latent
        self.hidden = tuple(hidden)
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.commitment = commitment
        self.seed = seed
        self.scale = 1.0
        self.codebooks: list[Tensor] = []
        self.encoder = nn.Sequential()
        self.decoder = nn.Sequential()

    def fit(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Train; see the protocol.

        Raises:
            DataError: the vectors cannot be used.
            ConfigurationError: a level has more codes than there are vectors.
        """
        points = checked(vectors)
        check_room(self.sizes, len(points))
        self.scale = float(points.square().mean().sqrt()) or 1.0
        points = points / self.scale
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder = perceptron([points.shape[1], *self.hidden, self.latent])
            self.decoder = perceptron([self.latent, *reversed(self.hidden), points.shape[1]])
        self.codebooks = self._first_codebooks(points, generator)
        weights = [*self.encoder.parameters(), *self.decoder.parameters(), *self.codebooks]
        optimizer = torch.optim.Adam(weights, lr=self.learning_rate)
        for rows in batches(len(points), self.batch, self.steps, generator):
            optimizer.zero_grad()
            torch.autograd.backward(self._loss(points[rows]))
            optimizer.step()
        self._freeze()
        return self.encode(vectors)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Residual codes of the latent vectors; see the protocol."""
        return residual_codes(self._latent(vectors), self.codebooks).numpy()

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The decoder's output for the sum of the levels' rows; see the protocol."""
        latent = sum_of_codes(torch.from_numpy(codes), self.codebooks, len(self.sizes))
        decoded: Tensor = self.decoder(latent) * self.scale
        return decoded.numpy()

    def last_level_distances(self, vectors: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """In the latent space; see the protocol."""
        before = sum_of_codes(torch.from_numpy(codes), self.codebooks, len(self.sizes) - 1)
        return squared_distances(self._latent(vectors) - before, self.codebooks[-1]).numpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Codebooks, weights of both perceptrons, and the scale; see the protocol."""
        networks = {"encoder": self.encoder, "decoder": self.decoder}
        weights = {
            f"{name}.{key}": value.numpy()
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }
        return named_codebooks(self.codebooks) | weights | {"scale": np.array([self.scale], dtype=np.float32)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Self:
        """See the protocol."""
        codebooks = codebooks_of(arrays)
        tokenizer = cls([len(book) for book in codebooks])
        tokenizer.codebooks = codebooks
        tokenizer.scale = float(arrays["scale"][0])
        tokenizer.encoder = _loaded(arrays, "encoder")
        tokenizer.decoder = _loaded(arrays, "decoder")
        tokenizer._freeze()
        return tokenizer

    def _latent(self, vectors: NDArray[np.float32]) -> Tensor:
        dimension = next(self.encoder.parameters()).shape[1]
        latent: Tensor = self.encoder(checked(vectors, dimension) / self.scale)
        return latent

    def _first_codebooks(self, points: Tensor, generator: torch.Generator) -> list[Tensor]:
        with torch.no_grad():
            remainder = self.encoder(points)
        codebooks = []
        for size in self.sizes:
            centroids = fit_centroids(
                remainder, size, iterations=_FIRST_ITERATIONS, sample_per_cluster=self.batch, generator=generator
            )
            remainder = remainder - centroids[nearest(remainder, centroids)[0]]
            codebooks.append(centroids.requires_grad_())
        return codebooks

    def _loss(self, points: Tensor) -> Tensor:
        latent = self.encoder(points)
        remainder = latent
        loss = torch.zeros(())
        for codebook in self.codebooks:
            with torch.no_grad():
                codes, _ = nearest(remainder, codebook)
            rows = codebook[codes]
            loss = loss + (rows - remainder.detach()).square().sum(dim=1).mean()
            loss = loss + self.commitment * (remainder - rows.detach()).square().sum(dim=1).mean()
            # Gradients of the next level's commitment reach the encoder, not this level's rows.
            remainder = remainder - rows.detach()
        # Straight through: the decoder sees the quantised vector, but its gradient reaches the encoder unchanged.
        quantised = latent - remainder.detach()
        reconstruction: Tensor = (self.decoder(quantised) - points).square().sum(dim=1).mean()
        return loss + reconstruction

    def _freeze(self) -> None:
        for weight in (*self.encoder.parameters(), *self.decoder.parameters(), *self.codebooks):
            weight.requires_grad_(False)


def _loaded(arrays: dict[str, NDArray[np.float32]], name: str) -> nn.Sequential:
    """The perceptron whose widths are those of its stored weights."""
    layers = takewhile(arrays.__contains__, (f"{name}.{2 * layer}.weight" for layer in count()))
    shapes = [arrays[layer].shape for layer in layers]
    network = perceptron([shapes[0][1], *(outputs for outputs, _ in shapes)])
    prefix = f"{name}."
    network.load_state_dict(
        {key.removeprefix(prefix): torch.from_numpy(array) for key, array in arrays.items() if key.startswith(prefix)}
    )
    return network
