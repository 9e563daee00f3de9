"""Everyone gets what stood near their last few items in other histories."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.data.encoded import EncodedSplit
from recascade.models.item_pairs import within_window
from recascade.models.sparse_ranking import history_rows, popularity_fill, rank_sparse


class CoVisit:
    """An untrained co-visitation table.

    Two events of a user at most ``window`` places apart add 1 / distance to their items' entry; a request adds up the
    rows of its last ``last`` items, each older one weighted ``decay`` times the one after it; popularity fills the
    rest of the list. The defaults are those of the field survey whose figures this table reproduces
    (``benchmarks/counting_floors.py``).
    """

    def __init__(
        self, table: sparse.csr_matrix, counts: NDArray[np.int64], *, last: int = 5, decay: float = 0.7
    ) -> None:
        """Keep the table.

        Args:
            table: ``[I, I]``, from the item of the history (row) to the item to recommend (column).
            counts: int64 ``[I]``, training events per item.
            last: events of the history that are read.
            decay: weight of an event relative to the next newer one.
        """
        self.table = table
        self.fill = popularity_fill(counts)
        self.last = last
        self.decay = decay

    @classmethod
    def fit(
        cls, data: EncodedSplit, *, window: int = 5, directed: bool = True, last: int = 5, decay: float = 0.7
    ) -> Self:
        """Count pairs of training events; ``directed`` counts only what came later, else both directions."""
        table = within_window(data, window, directed=directed)
        return cls(table, data.item_counts, last=last, decay=decay)

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``."""
        scores = history_rows(context.last(self.last), len(self.fill), decay=self.decay) @ self.table
        return rank_sparse(scores, self.fill, k, context, exclude_seen=exclude_seen, candidates=candidates)
