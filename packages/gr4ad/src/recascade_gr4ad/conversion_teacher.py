"""A frozen stand-in for the reward model: how likely a request converts on an item."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.tokenizers.truncated_svd import right_singular_vectors

RECENT = 20
SLOPE, INTERCEPT = 6.0, -6.0
_EVENTS_AT_ONCE = 65_536


class ConversionTeacher:
    """``pCVR = σ(6 cos(mean of the last 20 items' vectors, the item's vector) - 6)`` (our choice: 0.25 % at a cosine of
    0, 5 % at one half).

    The paper's reward model is trained on real exposures and not public. This one is the truncated singular value
    decomposition of which training users had which items, so it is fixed before any generator is trained and knows of
    no held-out event.

    Args:
        vectors: float32 ``[I, r]``, of length 1.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    @classmethod
    def fit(cls, data: EncodedSplit, dimension: int, seed: int) -> Self:
        """The r strongest directions of the training events."""
        lengths = data.train_lengths
        items = np.asarray(data.events.items)[ranges(data.events.offsets[:-1], lengths)]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shape = (len(lengths), len(data.items))
        matrix = sparse.csr_matrix((np.ones(len(items), dtype=np.float32), items, offsets), shape=shape)
        matrix.sum_duplicates()
        # Popular items would otherwise fill the first directions.
        popularity = np.sqrt(np.maximum(data.item_counts, 1)).astype(np.float32)
        directions = right_singular_vectors(matrix @ sparse.diags(1 / popularity, format="csr"), dimension, seed)
        return cls(normalize(torch.from_numpy(directions), dim=1))

    def rates(self, context: Context, items: Tensor) -> Tensor:
        """pCVR float32 ``[B, n]`` of items int64 ``[B, n]``; a request without history has the rate of a cosine of
        0."""
        recent = context.last(RECENT)
        profiles = torch.zeros(context.batch_size, self.vectors.shape[1])
        profiles.index_add_(0, recent.rows, self.vectors[recent.items])
        cosines = torch.einsum("br,bnr->bn", normalize(profiles, dim=1), self.vectors[items])
        return torch.sigmoid(SLOPE * cosines + INTERCEPT)

    def logged_rates(self, data: EncodedSplit) -> NDArray[np.float64]:
        """pCVR float64 ``[N]`` of each event's item given the user's (at most 20) events before it."""
        items = torch.from_numpy(np.asarray(data.events.items).astype(np.int64))
        firsts = torch.from_numpy(np.repeat(np.asarray(data.events.offsets[:-1]), data.events.lengths))
        rates = np.empty(len(items))
        for start in range(0, len(items), _EVENTS_AT_ONCE):
            stop = min(start + _EVENTS_AT_ONCE, len(items))
            behind = max(0, start - RECENT)
            sums = torch.zeros(stop - behind + 1, self.vectors.shape[1], dtype=torch.float64)
            torch.cumsum(self.vectors[items[behind:stop]].double(), 0, out=sums[1:])
            events = torch.arange(start, stop)
            oldest = torch.maximum(firsts[start:stop], events - RECENT)
            profiles = normalize(sums[events - behind] - sums[oldest - behind], dim=1)
            cosines = (profiles * self.vectors[items[start:stop]]).sum(1)
            rates[start:stop] = torch.sigmoid(SLOPE * cosines + INTERCEPT).numpy()
        return rates
