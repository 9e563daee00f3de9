"""The ranking stage: a score for each of a request's candidates."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from recascade.contracts.context import Context


@runtime_checkable
class Ranker(Protocol):
    """Anything that scores candidates and may look at user and item together, as no retriever can afford to."""

    def score(self, context: Context, items: Tensor) -> Tensor:
        """float32 ``[B, k]``, greater is better; only scores of the same request need be comparable.

        Args:
            context: B requests with their full histories (a model shortens them to what it reads).
            items: int64 ``[B, k]``, the candidates; -1 for an item that training never saw.
        """
        ...
