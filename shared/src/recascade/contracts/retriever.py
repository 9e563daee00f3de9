"""The retrieval stage: from the whole catalogue to the k best items of each request."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from recascade.contracts.context import Context


class TopK(NamedTuple):
    """The k best items of B requests, best first.

    ``items`` int64 ``[B, k]`` (-1 where fewer than k items could be recommended), ``scores`` float32 ``[B, k]`` (-inf
    there).
    """

    items: Tensor
    scores: Tensor


@runtime_checkable
class Retriever(Protocol):
    """Anything that recommends from the whole catalogue: popularity, a two-tower model, a generator behind a search.

    One that computes elsewhere than on the CPU has an attribute ``device``, where it wants its requests.
    """

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """The k best items of each request.

        Args:
            context: B requests with their full histories (a model shortens them to what it reads).
            k: list length; more than there are items gives -1 in the surplus places.
            exclude_seen: leave out every item of the request's own history.
            candidates: int64 ``[C]``, rank only these items (the same for all requests); None ranks the whole
                catalogue.
        """
        ...
