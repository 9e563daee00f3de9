"""A ranker at work that wants to hear of a request before its candidates are known."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from recascade.contracts.context import Context


class Scored(NamedTuple):
    """Scores of one request.

    Attributes:
        scores: float32 ``[1, k]``, greater is better.
        whole: False where the ranker read a part of the history only, to be in time.
    """

    scores: Tensor
    whole: bool


@runtime_checkable
class HintedRanker(Protocol):
    """Ranks one request at a time and may begin with the history while candidates are still being found.

    A hint may be missing, come late or twice; the scores do not depend on it. All functions may be called from several
    threads.
    """

    def hint(self, user: str, context: Context, candidates: int) -> Any:
        """Say that a request is to be ranked soon; returns at once, with a ticket for ``rank``.

        Args:
            user: identifier.
            context: one request with the whole history.
            candidates: how many there will be, about.
        """
        ...

    def rank(self, user: str, context: Context, items: Tensor, ticket: Any, budget: float) -> Scored:
        """Score the candidates.

        Args:
            user: identifier.
            context: one request with the whole history.
            items: int64 ``[1, k]``, the candidates; -1 for an item that training never saw.
            ticket: from ``hint``, or None.
            budget: seconds that it may take.
        """
        ...

    def close(self) -> None:
        """Stop; nothing is asked any more."""
        ...
