"""Neural next-item models as one protocol, and the retriever that serves any of them."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.errors import DataError
from recascade.models.evaluation_mode import evaluation_mode
from recascade.nn.top_k import top_k_inner_product


@runtime_checkable
class NextItemModel(Protocol):
    """A module that turns histories into states, to be compared with item vectors by inner product.

    Attributes:
        max_length: the most events of one sequence that ``states`` accepts.
    """

    max_length: int

    def states(self, context: Context) -> Tensor:
        """``[T, d]``; row t depends on events up to t of its own sequence alone, so that it may predict event t + 1."""
        ...

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """``[n, d]`` vectors of these items (int64 ``[n]``), or ``[I, d]`` of the whole catalogue."""
        ...


@runtime_checkable
class NewestStates(Protocol):
    """A model that computes the states of the newest events for less than all states; retrievers need no others."""

    def newest_states(self, context: Context) -> Tensor:
        """``[B, d]``, the state of each request's newest event, 0 where there is none."""
        ...


def check_lengths(longest: int, max_length: int) -> None:
    """Refuse histories that a model has no positions for.

    Raises:
        DataError: ``longest`` exceeds ``max_length``.
    """
    if longest > max_length:
        raise DataError(
            f"A history of {longest} events reached a model that reads at most {max_length}. "
            "Shorten it with Context.last, or raise max_length."
        )


class InnerProductRetriever:
    """Recommends the items with the greatest inner product with the last state of each history, and ranks by it.

    Item vectors are computed at the first request and kept: make a new retriever after further training.

    Args:
        model: a ``NextItemModel`` that is an ``nn.Module``; it runs in evaluation mode without gradients.
        popularity: float ``[I]``, the scores of a request without history.
    """

    def __init__(self, model: NextItemModel, popularity: Tensor) -> None:
        self.model = model
        self.popularity = popularity
        self._item_vectors: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the model lies, and wants its requests."""
        return next(cast(nn.Module, self.model).parameters()).device

    @torch.inference_mode()
    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """The k best items of each request; see ``recascade.contracts.retriever.Retriever``."""
        with evaluation_mode(cast(nn.Module, self.model)):
            recent = context.last(self.model.max_length)
            vectors = self._vectors()
            queries = self._queries(recent, vectors)
        known = recent.lengths > 0
        seen = context if exclude_seen else None
        best = top_k_inner_product(queries, vectors, k, seen=seen, candidates=candidates)
        if bool(known.all()):
            return best
        fallback = self._most_popular(int((~known).sum()), k, vectors, candidates)
        items, scores = best.items.clone(), best.scores.clone()
        items[~known], scores[~known] = fallback.items, fallback.scores
        return TopK(items, scores)

    @torch.inference_mode()
    def score(self, context: Context, items: Tensor) -> Tensor:
        """Scores of candidates; see ``recascade.contracts.ranker.Ranker``. -inf for items that training never saw."""
        with evaluation_mode(cast(nn.Module, self.model)):
            recent = context.last(self.model.max_length)
            vectors = self._vectors()
            queries = self._queries(recent, vectors)
        known = items.clamp(min=0)
        scores = torch.einsum("bkd,bd->bk", vectors[known], queries)
        popularity = self.popularity.to(scores)[known]
        scores = torch.where((recent.lengths > 0)[:, None], scores, popularity)
        return scores.masked_fill(items < 0, -torch.inf)

    def _vectors(self) -> Tensor:
        """``[I, d]``, those of all items, computed at the first request."""
        if self._item_vectors is None:
            self._item_vectors = self.model.item_vectors()
        return self._item_vectors

    def _queries(self, context: Context, vectors: Tensor) -> Tensor:
        """``[B, d]``, the newest state of each request, 0 for those without history."""
        if not len(context.items):
            # The layout of an accelerator needs at least one event.
            return vectors.new_zeros(context.batch_size, vectors.shape[1])
        if isinstance(self.model, NewestStates):
            return self.model.newest_states(context)
        states = self.model.states(context)
        queries = states.new_zeros(context.batch_size, states.shape[1])
        known = context.lengths > 0
        queries[known] = states[context.offsets[1:][known] - 1]
        return queries

    def _most_popular(self, requests: int, k: int, vectors: Tensor, candidates: Tensor | None) -> TopK:
        """Popularity as an inner product of one dimension, for requests without history, which have seen nothing."""
        popularity = self.popularity.to(vectors)[:, None]
        return top_k_inner_product(vectors.new_ones(requests, 1), popularity, k, candidates=candidates)
