"""The re-ranking stage: an order of each request's candidates that looks at the whole list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from recascade.data.reranking_batch import RerankingBatch


@runtime_checkable
class Reranker(Protocol):
    """Anything that puts a list in order: a diversity rule, a network that scores, a generator."""

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """The first ``count`` candidates of each list, best first.

        A list's own candidates come before any padding; where a list has fewer than ``count``, the surplus places are
        -1. No candidate stands twice.

        Args:
            batch: B lists of at most n candidates; the labels are not read.
            count: m, places to fill.

        Returns:
            int64 ``[B, m]``, places 0…n-1 in ``batch``.
        """
        ...


@runtime_checkable
class ListScorer(Reranker, Protocol):
    """A re-ranker that orders by one score per candidate."""

    def scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``, greater is better, -inf in padding; only scores of one list need be comparable."""
        ...
