"""What every quantiser asks of the vectors it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.errors import ConfigurationError, DataError


def checked(vectors: NDArray[np.float32], dimension: int | None = None) -> Tensor:
    """The vectors as a tensor float32 ``[N, d]``.

    Raises:
        DataError: not two-dimensional, another dimension than ``dimension``, or a value that is not finite.
    """
    if vectors.ndim != 2:
        raise DataError(f"Item vectors have the shape {list(vectors.shape)}; give one row of numbers per item.")
    if dimension is not None and vectors.shape[1] != dimension:
        raise DataError(
            f"Item vectors have {vectors.shape[1]} numbers each, but the codebooks were fitted on {dimension}; "
            "make the vectors with the same encoder."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"{int((~finite).sum()):,} of {len(vectors):,} item vectors hold a value that is not finite, first in row "
            f"{row + 1} (counted from 1); mend or leave out these items."
        )
    return torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors float32 ``[N, d]`` scaled to length 1; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, np.where(norms > 0, norms, 1), dtype=np.float32)


def check_room(sizes: Sequence[int], items: int) -> None:
    """Refuse codebooks that are larger than the number of vectors they are learned from.

    Raises:
        ConfigurationError: naming the level.
    """
    for level, size in enumerate(sizes):
        if size > items:
            raise ConfigurationError(
                f"tokenizer.sizes gives level {level + 1} {size:,} codes, but there are only {items:,} items to learn "
                f"them from; choose at most {items:,}."
            )
