"""A vector for each code of each level of semantic ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CodeEmbedding(nn.Module):
    """The tables of L levels, one behind the other.

    Args:
        sizes: how many codes each level has.
        dimension: width d.
        initial_deviation: standard deviation of the initial vectors.
    """

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], dimension: int, initial_deviation: float = 0.02) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        ends = torch.tensor(self.sizes).cumsum(0)
        self.register_buffer("offsets", ends - torch.tensor(self.sizes), persistent=False)
        self.table = nn.Parameter(torch.empty(int(ends[-1]), dimension))
        nn.init.normal_(self.table, std=initial_deviation)

    def forward(self, codes: Tensor, level: int = 0) -> Tensor:
        """Codes int64 ``[..., m]`` of m neighbouring levels to ``[..., m, d]``; the first of them is ``level``."""
        rows = codes + self.offsets[level : level + codes.shape[-1]]
        # index_select, because the gradient of embedding is a slower scatter on a CPU.
        return self.table.index_select(0, rows.flatten()).view(*rows.shape, self.table.shape[1])

    def of_level(self, level: int) -> Tensor:
        """``[sizes[level], d]``, the vectors of one level."""
        start = int(sum(self.sizes[:level]))
        return self.table[start : start + self.sizes[level]]

    @torch.no_grad()
    def start_from(self, rows: Tensor, deviation: float = 0.1) -> None:
        """Replace the initial vectors of the first levels by given ones, before training.

        Args:
            rows: float ``[R, d]`` of the first R codes, level after level; rows of zeros leave what is there.
            deviation: root mean square that the numbers of the others are scaled to. 0.1 (our choice: on Amazon Beauty
                better than 0.25).
        """
        given = rows.any(1)
        if given.any():
            scaled = rows * (deviation / rows[given].square().mean().sqrt())
            self.table[: len(rows)] = torch.where(given[:, None], scaled.to(self.table), self.table[: len(rows)])
