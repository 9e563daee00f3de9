"""Tiles of causal attention: pieces of the score matrices small enough for a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from recascade.nn.packed import PackedLayout

# Scores in a tile, and queries of one sequence in a tile. Our choice, measured with 1 MB of second-level cache; a GPU
# wants few large tiles, bounded in memory.
_SCORES_CPU = 1 << 17
_SCORES_GPU = 1 << 26
_QUERIES_CPU = 64
_QUERIES_GPU = 1 << 10


class Tile(NamedTuple):
    """Some sequences of one rectangle and one head; queries ``first`` to ``last`` see the keys before ``last``."""

    group: int
    sequences: slice
    head: int
    first: int
    last: int

    def queries(self, rectangles: list[Tensor]) -> Tensor:
        """View ``[n, last - first, ...]`` of ``[sequences, width, H, ...]`` rectangles."""
        return rectangles[self.group][self.sequences, self.first : self.last, self.head]

    def keys(self, rectangles: list[Tensor]) -> Tensor:
        """View ``[n, last, ...]`` of ``[sequences, width, H, ...]`` rectangles."""
        return rectangles[self.group][self.sequences, : self.last, self.head]


def tiles(layout: PackedLayout, heads: int, device: torch.device) -> Iterator[Tile]:
    """All tiles of a batch, one after the other in a fixed order."""
    cpu = device.type == "cpu"
    most_scores, most_queries = (_SCORES_CPU, _QUERIES_CPU) if cpu else (_SCORES_GPU, _QUERIES_GPU)
    for index, group in enumerate(layout.groups):
        blocks = -(-group.width // most_queries)
        edges = [group.width * block // blocks for block in range(blocks + 1)]
        for first, last in pairwise(edges):
            step = max(1, most_scores // (last * (last - first)))
            for start in range(0, group.sequences, step):
                chosen = slice(start, min(start + step, group.sequences))
                for head in range(heads):
                    yield Tile(index, chosen, head, first, last)
