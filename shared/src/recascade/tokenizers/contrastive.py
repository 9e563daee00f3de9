"""Vectors pulled towards those of items that the same users take."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from recascade.tokenizers.config import ContrastiveConfig
from recascade.tokenizers.perceptron import batches, perceptron
from recascade.tokenizers.vectors import checked


def multi_positive_loss(vectors: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """GR4AD's equation 1: −log [ Σ_{j ∈ P_i} exp(z_i·z_j / τ) / Σ_{k ≠ i} exp(z_i·z_k / τ) ], the mean over i.

    The sum over positives stands inside the logarithm: one near positive is enough.

    Args:
        vectors: float32 ``[B, d]`` of length 1.
        positives: bool ``[B, B]``, false on the diagonal; rows without a positive are left out of the mean.
        temperature: τ.

    Returns:
        A scalar, 0 where no row has a positive.
    """
    logits = vectors @ vectors.T / temperature
    itself = torch.eye(len(vectors), dtype=torch.bool)
    everyone = logits.masked_fill(itself, -torch.inf).logsumexp(dim=1)
    anchors = positives.any(dim=1)
    near = logits[anchors].masked_fill(~positives[anchors], -torch.inf).logsumexp(dim=1)
    return (everyone[anchors] - near).sum() / max(1, int(anchors.sum()))


class ContrastiveProjection:
    """z → (z + perceptron(z)) / |…|, frozen after fitting. It begins as z itself (our choice; the paper tunes its
    language model).
    """

    def __init__(self, network: nn.Sequential) -> None:
        """Take over a perceptron from d to d numbers."""
        self.network = network.requires_grad_(False)

    @classmethod
    def fit(
        cls, vectors: NDArray[np.float32], partners: sparse.csr_matrix, config: ContrastiveConfig, seed: int
    ) -> Self:
        """Train on batches of items, each with one of its partners drawn at random; all others are negatives.

        Args:
            vectors: float32 ``[I, d]``.
            partners: ``[I, I]``; j is a positive of i where the entry is not zero.
            config: how to train.
            seed: of weights, batches and partners.

        Raises:
            DataError: the vectors cannot be used.
        """
        points = checked(vectors)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = perceptron([points.shape[1], config.hidden, points.shape[1]])
        for weight in network[-1].parameters():
            nn.init.zeros_(weight)
        related = (partners + partners.T).astype(np.bool_).tocsr()
        counts = torch.from_numpy(np.diff(partners.indptr).astype(np.int64))
        starts = torch.from_numpy(partners.indptr[:-1].astype(np.int64))
        anchors = counts.nonzero().squeeze(1)
        steps = config.epochs * -(-len(anchors) // config.batch)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        for chosen in batches(len(anchors), config.batch, steps, generator):
            rows = anchors[chosen]
            drawn = starts[rows] + (torch.rand(len(rows), generator=generator) * counts[rows]).long()
            members = np.unique(np.concatenate([rows.numpy(), partners.indices[drawn.numpy()]]))
            positives = torch.from_numpy(related[members][:, members].toarray())
            optimizer.zero_grad()
            projected = _project(network, points[torch.from_numpy(members)])
            torch.autograd.backward(multi_positive_loss(projected, positives, config.temperature))
            optimizer.step()
        return cls(network)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tuned vectors float32 ``[N, d]``, of length 1, of float32 ``[N, d]``."""
        dimension = next(self.network.parameters()).shape[1]
        return _project(self.network, checked(vectors, dimension)).numpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name."""
        return {name: weight.numpy() for name, weight in self.network.state_dict().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> Self:
        """The projection whose ``arrays`` these are."""
        hidden, dimension = arrays["0.weight"].shape
        network = perceptron([dimension, hidden, dimension])
        network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return cls(network)


def _project(network: nn.Sequential, vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors + network(vectors), dim=1)
