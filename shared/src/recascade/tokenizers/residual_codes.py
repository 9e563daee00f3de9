"""Greedy residual codes: the nearest row of the first codebook, then of the second for what is left over, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.tokenizers.kmeans import nearest


def residual_codes(points: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Codes int64 ``[N, L]`` of float32 ``[N, d]`` under L codebooks float32 ``[K, d]``."""
    remainder = points.clone()
    codes = torch.empty((len(points), len(codebooks)), dtype=torch.int64)
    for level, codebook in enumerate(codebooks):
        codes[:, level], _ = nearest(remainder, codebook)
        remainder -= codebook[codes[:, level]]
    return codes


def sum_of_codes(codes: Tensor, codebooks: Sequence[Tensor], levels: int) -> Tensor:
    """The sum float32 ``[N, d]`` of what the first ``levels`` of codes ``[N, L]`` stand for."""
    total = torch.zeros((len(codes), codebooks[0].shape[1]))
    for level in range(levels):
        total += codebooks[level][codes[:, level]]
    return total


def named_codebooks(codebooks: Sequence[Tensor]) -> dict[str, NDArray[np.float32]]:
    """``codebook-1`` and so on, for a file."""
    return {f"codebook-{level}": book.numpy() for level, book in enumerate(codebooks, start=1)}


def codebooks_of(arrays: Mapping[str, NDArray[np.float32]]) -> list[Tensor]:
    """What ``named_codebooks`` named."""
    names = takewhile(arrays.__contains__, (f"codebook-{level}" for level in count(1)))
    return [torch.from_numpy(arrays[name]) for name in names]
