"""Embeddings of identities, in a table that grows with its vocabulary."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

from recascade.nn.bag import bag_mean

Entity = Literal["user", "item"]

# Words that one step of the Philox counter yields.
_WORDS = 4


class IdEmbedding(nn.Module):
    """One vector per user or item, and one for whatever is unknown.

    Row 0 of the weight stands for the unknown, whose index is -1, and begins as zeros; the row of index n is n + 1.

    Args:
        count: known users or items; may be 0.
        dimension: width d of the vectors.
        entity: whose identities these are, so that ``recascade.training.growing`` knows which tables to grow.
        initial_deviation: standard deviation of the initial vectors.
        sparse: give sparse gradients, for ``torch.optim.SparseAdam``: a step then costs by the batch, not by the table.
    """

    def __init__(
        self, count: int, dimension: int, entity: Entity, *, initial_deviation: float = 0.02, sparse: bool = False
    ) -> None:
        super().__init__()
        self.entity = entity
        self.initial_deviation = initial_deviation
        self.sparse = sparse
        self.weight = nn.Parameter(torch.zeros(1 + count, dimension))
        nn.init.normal_(self.weight.data[1:], std=initial_deviation)

    @property
    def count(self) -> int:
        """Known users or items."""
        return len(self.weight) - 1

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        return self.weight.shape[1]

    def forward(self, indices: Tensor) -> Tensor:
        """``[n, d]`` vectors of these indices (int64 ``[n]``, -1 for unknown)."""
        rows = indices + 1
        # index_select, because the dense gradient of embedding is a slower scatter on a CPU.
        return embedding(rows, self.weight, sparse=True) if self.sparse else self.weight.index_select(0, rows)

    def mean(self, indices: Tensor, offsets: Tensor) -> Tensor:
        """The mean vector of each bag of indices, 0 for an empty one.

        Args:
            indices: int64 ``[T]``, -1 for unknown.
            offsets: int64 ``[B + 1]``, ascending from 0 to T.

        Returns:
            ``[B, d]``.
        """
        rows = indices + 1
        if self.sparse:
            return embedding_bag(rows, self.weight, offsets, mode="mean", include_last_offset=True, sparse=True)
        return bag_mean(self.weight, rows, offsets)

    def grow(self, count: int, seed: int) -> nn.Parameter:
        """Append rows up to ``count`` and return the new weight, another parameter than before; nothing if it has them.

        An appended row's values depend on the seed and the row's number alone, not on the steps in which the table
        grew. A table may therefore grow ahead of its vocabulary. An optimizer must be told of the new parameter:
        see ``recascade.training.growing``.
        """
        if count > self.count:
            old = self.weight
            values = _normal_rows(len(old), 1 + count, self.dimension, seed) * self.initial_deviation
            self.weight = nn.Parameter(torch.cat([old.detach(), values.to(old)]), requires_grad=old.requires_grad)
        return self.weight


def _normal_rows(start: int, stop: int, width: int, seed: int) -> Tensor:
    """float32 ``[stop - start, width]``, standard normal; each row is a function of its number and the seed alone."""
    steps = -(-width // _WORDS)
    stream = np.random.Philox(key=seed % (1 << 128)).advance(start * steps)
    words = stream.random_raw((stop - start) * steps * _WORDS).reshape(stop - start, -1)[:, :width]
    # 52 bits give a number strictly between 0 and 1, whose normal quantile is finite.
    uniform = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    normal: Tensor = torch.special.ndtri(torch.from_numpy(uniform))
    return normal.float()
