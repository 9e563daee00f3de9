"""Everyone gets what they had most often, then what is popular."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.encoded import EncodedSplit
from recascade.models.sparse_ranking import history_rows, popularity_fill, rank_sparse


class PersonalFrequency:
    """Ranks by the number of the user's own events, which is hard to beat where purchases repeat (next baskets).

    Known as GP-TopFreq (Hu et al., SIGIR 2020; Li et al., TOIS 2023): personal frequency filled up with popularity. The
    weight ``decay`` per event of age is ours; 1, the default, is plain frequency. Equal scores stand in the order of
    popularity.
    """

    def __init__(self, counts: NDArray[np.int64], decay: float = 1.0) -> None:
        """Keep the training events per item, int64 ``[I]``, and the decay per event of age."""
        self.fill = popularity_fill(counts)
        self.popular = torch.argsort(self.fill, descending=True, stable=True)
        self.decay = decay

    @classmethod
    def fit(cls, data: EncodedSplit, decay: float = 1.0) -> Self:
        """Count the training events; histories come with the requests."""
        return cls(data.item_counts, decay)

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``."""
        scores = history_rows(context, len(self.fill), decay=self.decay)
        return rank_sparse(
            scores, self.fill, k, context, exclude_seen=exclude_seen, candidates=candidates, ties=self.popular
        )
