"""How well codes tell items apart, how evenly they are used, and what they keep of the vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recascade.tokenizers.code_groups import code_groups


@dataclass(frozen=True)
class CodeMetrics:
    """Figures of a table of codes (GR4AD, appendix A.3.1, with its utilisation corrected).

    Attributes:
        items: number of items.
        ids: number of different codes among them.
        one_to_one_ids: codes that stand for a single item.
        space: codes there could be, the product of the sizes.
        largest_id: items of the code that stands for most.
    """

    items: int
    ids: int
    one_to_one_ids: int
    space: int
    largest_id: int

    @property
    def compression_ratio(self) -> float:
        """Items per code, at least 1."""
        return self.items / self.ids

    @property
    def shared_id_rate(self) -> float:
        """1 − one-to-one codes / codes: the paper's collision rate. Never above ``compression_ratio`` − 1.

        The paper's third row (compression 1.07, collision 18.26 %) breaks this bound, so it must have been measured
        otherwise.
        """
        return 1 - self.one_to_one_ids / self.ids

    @property
    def lost_item_rate(self) -> float:
        """1 − codes / items: the collision rate of MiniOneRec and others; it equals 1 − 1 / ``compression_ratio``."""
        return 1 - self.ids / self.items

    @property
    def utilisation(self) -> float:
        """Codes / space. The paper prints items / space, which is the same for every quantiser of one space."""
        return self.ids / self.space


@dataclass(frozen=True)
class LevelUsage:
    """How one level's codes are used.

    Attributes:
        counts: int64 ``[size]``, items per code.
    """

    counts: NDArray[np.int64]

    @property
    def used(self) -> float:
        """Share of the codes that some item has."""
        return float((self.counts > 0).mean())

    @property
    def entropy(self) -> float:
        """Entropy of the usage in bits; log2(size) when all codes are used alike."""
        shares = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(shares * np.log2(shares)).sum())

    @property
    def evenness(self) -> float:
        """Entropy / log2(size): 1 when all codes are used alike; a level of one code is even."""
        return self.entropy / math.log2(len(self.counts)) if len(self.counts) > 1 else 1.0


def code_metrics(codes: NDArray[np.integer], sizes: Sequence[int]) -> CodeMetrics:
    """Measure N > 0 codes ``[N, L]`` of these sizes."""
    holders = np.bincount(code_groups(codes))
    return CodeMetrics(
        items=len(codes),
        ids=len(holders),
        one_to_one_ids=int((holders == 1).sum()),
        space=math.prod(sizes),
        largest_id=int(holders.max()),
    )


def level_usage(codes: NDArray[np.integer], sizes: Sequence[int]) -> list[LevelUsage]:
    """Usage of each of L levels."""
    return [
        LevelUsage(np.bincount(level, minlength=size).astype(np.int64, copy=False))
        for level, size in zip(codes.T, sizes, strict=True)
    ]


def reconstruction_error(vectors: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
    """Share of the variance around the mean that the codes leave over: 0 if they lose nothing, 1 for the mean alone.

    Args:
        vectors: float32 ``[N, d]``, what was quantised.
        decoded: float32 ``[N, d]``, what its codes stand for.
    """
    spread = np.square(vectors - vectors.mean(axis=0)).sum(dtype=np.float64)
    left = np.square(vectors - decoded).sum(dtype=np.float64)
    return float(left / spread) if spread > 0 else 0.0
