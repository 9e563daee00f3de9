"""What each code of each level stands for: the vectors of its items, less what the levels before say of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def code_vectors(codes: Tensor, sizes: Sequence[int], vectors: Tensor, dimension: int) -> Tensor:
    """A row for each code, level after level: the mean of its items' vectors, of which the rows of their codes before
    were subtracted. The rows of an item's codes add up to about its vector.

    Vectors are first reduced to their ``dimension`` principal directions, so that inner products stay about what they
    were; where they have fewer numbers than that, zeros follow.

    Args:
        codes: int64 ``[I, L]``.
        sizes: codes per level, L numbers.
        vectors: float32 ``[I, w]``.
        dimension: d.

    Returns:
        float32 ``[sum(sizes), d]``; zeros for a code that no item has.
    """
    remainder = _principal(vectors, dimension)
    rows = []
    for column, size in zip(codes.unbind(1), sizes, strict=True):
        counts = torch.bincount(column, minlength=size).clamp(min=1)
        sums = remainder.new_zeros(size, dimension).index_add_(0, column, remainder)
        means = sums / counts[:, None]
        rows.append(means)
        remainder = remainder - means.index_select(0, column)
    return torch.cat(rows)


def _principal(vectors: Tensor, dimension: int) -> Tensor:
    centred = vectors - vectors.mean(0)
    kept = min(dimension, vectors.shape[1])
    # Eigenvalues come in ascending order. A matrix of w by w, however many items there are.
    _, directions = torch.linalg.eigh(centred.double().T @ centred.double())
    reduced = centred @ directions[:, -kept:].flip(1).to(vectors.dtype)
    return torch.nn.functional.pad(reduced, (0, dimension - kept))
