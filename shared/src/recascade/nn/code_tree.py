"""What a beam search walks on: a tree whose paths are the ids it may write."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Continuations(NamedTuple):
    """The children of nodes ``[B, n]``, at most M each.

    ``codes`` int64 ``[B, n, M]``, ascending where there is a child; ``nodes`` int64 ``[B, n, M]``, -1 where there is
    none.
    """

    codes: Tensor
    nodes: Tensor


class CodeTree(Protocol):
    """A tree of depth L; nodes are numbered per depth, the root is node 0 of depth 0."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has."""
        ...

    def continuations(self, nodes: Tensor, level: int) -> Continuations:
        """The children of nodes int64 ``[B, n]`` of depth ``level``, not -1; their codes are of that level (0…L-1)."""
        ...


class CompleteTree:
    """All combinations of codes: a search that may write ids that no item has.

    Args:
        sizes: codes per level.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes

    def continuations(self, nodes: Tensor, level: int) -> Continuations:
        """Every code of the level; a node's number is its codes read as digits."""
        codes = torch.arange(self.sizes[level], device=nodes.device)
        children = nodes[..., None] * self.sizes[level] + codes
        return Continuations(codes.expand_as(children), children)
