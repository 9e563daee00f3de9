"""eCPM as a token: equally filled buckets, and the order that its prediction gives to what a search found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.errors import DataError
from recascade.nn.beam_search import FoundIds


@dataclass(frozen=True)
class ValueBuckets:
    """b buckets with edges at the quantiles of the training values (GR4AD, §3.3; the paper does not say how many).

    Attributes:
        edges: float64 ``[b - 1]``, ascending; a value equal to an edge lies in the upper bucket.
        means: float64 ``[b]``, mean training value of each bucket.
    """

    edges: NDArray[np.float64]
    means: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.floating], buckets: int) -> ValueBuckets:
        """Buckets of N known values, each with N / b of them to within one where no values are equal.

        Raises:
            DataError: there are fewer values than buckets, or one of them is negative or not a number.
        """
        if len(values) < buckets:
            raise DataError(f"There are {len(values)} values for {buckets} buckets; set model.values.buckets lower.")
        wrong = ~(values >= 0)
        if wrong.any():
            raise DataError(
                f"{int(wrong.sum()):,} ad values are negative or not a number, first {values[wrong.argmax()]}; values "
                "must be 0 or more."
            )
        ordered = np.sort(values.astype(np.float64))
        edges = ordered[np.arange(1, buckets) * len(ordered) // buckets]
        inside = np.searchsorted(edges, ordered, side="right")
        counts = np.bincount(inside, minlength=buckets)
        sums = np.bincount(inside, weights=ordered, minlength=buckets)
        # Where many values are equal some buckets are empty; such a bucket stands for its lower edge.
        lower = np.concatenate([ordered[:1], edges])
        return cls(edges, np.where(counts > 0, sums / np.maximum(counts, 1), lower))

    def __len__(self) -> int:
        return len(self.means)

    def of(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """The bucket of each value, int64, -1 for an unknown one (NaN)."""
        found = np.searchsorted(self.edges, values, side="right")
        return np.where(np.isnan(values), -1, found).astype(np.int64)

    def grades(self, values: NDArray[np.floating], highest: float) -> NDArray[np.float32]:
        """Buckets as grades from 0 to ``highest``: bounded, so that ``2^grade`` is, too (our choice)."""
        return (self.of(values) * (highest / max(len(self) - 1, 1))).astype(np.float32)


def rerank_by_value(found: FoundIds, value_log_probs: Tensor, means: Tensor, gamma: float) -> FoundIds:
    """Order ids by ``log p(id) + γ log E[value | id]`` (our choice: the paper gives no formula).

    Args:
        found: of B requests, W places.
        value_log_probs: float ``[B, W, b]`` over the eCPM buckets of each id.
        means: float ``[b]``, mean value of each bucket.
        gamma: γ; 0 keeps the order and the scores of the search.

    Returns:
        The same ids; ``log_probs`` holds the new scores, -inf in empty places, which stay last.
    """
    if gamma == 0:
        return found
    expected = (value_log_probs.exp() @ means.to(value_log_probs)).clamp(min=torch.finfo(value_log_probs.dtype).tiny)
    scores = found.log_probs + gamma * expected.log()
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    codes = found.codes.gather(1, order[..., None].expand_as(found.codes))
    return FoundIds(codes, found.leaves.gather(1, order), scores, found.parents.gather(1, order))
