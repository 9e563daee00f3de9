"""The strongest directions of a sparse matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_OVERSAMPLING = 16
_POWER_ITERATIONS = 4


def right_singular_vectors(matrix: sparse.csr_matrix, rank: int, seed: int) -> NDArray[np.float32]:
    """The right singular vectors of the largest singular values, by random projection (Halko et al., 2011, alg. 4.4).

    Args:
        matrix: ``[N, M]``.
        rank: how many; fewer come back where N or M is smaller.
        seed: of the projection.

    Returns:
        float32 ``[M, rank]``, orthonormal, strongest first, each with a positive largest entry.
    """
    rank = min(rank, *matrix.shape)
    width = min(rank + _OVERSAMPLING, *matrix.shape)
    start = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), dtype=np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    right = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)[2][:rank].T
    largest = np.abs(right).argmax(axis=0)
    signs = np.sign(right[largest, np.arange(right.shape[1])])
    return np.ascontiguousarray(right * signs, dtype=np.float32)
