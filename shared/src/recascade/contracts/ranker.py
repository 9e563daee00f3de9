"""The ranking stage: a score for each of a request's candidates."""

from __future__ import annotations

from collections.abc import Sequence
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


@runtime_checkable
class PrefixRanker(Ranker, Protocol):
    """A ranker whose work on the older events of a history can be done before the newer ones and the candidates are
    known.

    States are tensors ``[layers, tokens, width]``: the first n events of a history leave n tokens, which do not depend
    on anything that comes after them. A history of n events may have its states in several pieces, in order.

    Attributes:
        max_length: the most events of a history.
    """

    max_length: int

    @property
    def state_shape(self) -> tuple[int, int]:
        """Layers and width of the states; with the size of an element, the bytes of a token."""
        ...

    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        """``[layers, n - m, width]``, the states of one request's events m to n, given those of its first m events.

        Args:
            history: one request with n events.
            states: pieces with m tokens in all; none to begin at the first event.
        """
        ...

    def score_on(self, states: Sequence[Tensor], history: Context, items: Tensor) -> Tensor:
        """float32 ``[1, k]``, what ``score`` gives, computing only what the states leave to do.

        Args:
            states: pieces of the first events of the history.
            history: one request with its full history.
            items: int64 ``[1, k]``.
        """
        ...
