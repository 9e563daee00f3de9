"""Retrieve, rank, re-rank: several stages as one retriever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from recascade.cascade.blend import blended
from recascade.contracts.context import Context
from recascade.contracts.ranker import Ranker
from recascade.contracts.reranker import Reranker
from recascade.contracts.retriever import Retriever, TopK


class RerankingEncoder(Protocol):
    """What turns requests and candidates into a re-ranker's batch; see ``data.reranking_inputs.RerankingInputs``."""

    def batch(self, context: Context, items: Tensor, scores: Tensor | None = None) -> Any:
        """The batch of these requests."""
        ...


@dataclass(frozen=True)
class RerankingStage:
    """A re-ranker with what it reads its lists by.

    Attributes:
        reranker: orders lists.
        inputs: encodes them.
        candidates: most candidates of a list; the rest of a longer list keeps its places behind.
    """

    reranker: Reranker
    inputs: RerankingEncoder
    candidates: int


@dataclass(frozen=True)
class Cascade:
    """Stages in line, asked for lists like any retriever.

    Attributes:
        retriever: finds candidates.
        retrieved: how many.
        ranker: scores them; None keeps the retriever's order.
        ranker_weight: of its scores against the retriever's order, from 0 to 1; see ``recascade.cascade.blend``.
        reranking: orders the head of the ranked list; None keeps it.
    """

    retriever: Retriever
    retrieved: int
    ranker: Ranker | None = None
    ranker_weight: float = 1.0
    reranking: RerankingStage | None = None

    @torch.inference_mode()
    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``; all stages together.

        Scores are those of the last stage that scores, or, behind a re-ranker, k - place, which says the order alone.
        """
        count = max(k, self.retrieved)
        best = retrieve_with(self.retriever, context, count, exclude_seen=exclude_seen, candidates=candidates)
        if self.ranker is not None:
            best = rank_with(self.ranker, context, best, self.ranker_weight)
        if self.reranking is not None:
            best = rerank_with(self.reranking, context, best)
        return TopK(best.items[:, :k], best.scores[:, :k])


def retrieve_with(
    retriever: Retriever, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
) -> TopK:
    """A retriever's lists on the CPU, wherever it computes."""
    device = _device(retriever)
    if candidates is not None:
        candidates = candidates.to(device)
    best = retriever.retrieve(context.to(device), k, exclude_seen=exclude_seen, candidates=candidates)
    return TopK(best.items.cpu(), best.scores.cpu())


def rank_with(
    ranker: Ranker, context: Context, best: TopK, weight: float = 1.0, taken_for: Tensor | None = None
) -> TopK:
    """The same candidates as the ranker orders them; see ``in_order_of``.

    Args:
        ranker: scores them.
        context: B requests.
        best: the candidates.
        weight: of the ranker's scores against the order of ``best``.
        taken_for: int64 ``[B, k]``, the items that the ranker is to take them for; None for themselves.
    """
    return in_order_of(scores_of(ranker, context, best.items if taken_for is None else taken_for), best, weight)


def scores_of(ranker: Ranker, context: Context, items: Tensor) -> Tensor:
    """A ranker's scores float32 ``[B, k]`` on the CPU, wherever it computes."""
    device = _device(ranker)
    return ranker.score(context.to(device), items.to(device)).float().cpu()


def in_order_of(scores: Tensor, best: TopK, weight: float = 1.0) -> TopK:
    """Candidates ordered by new scores, float ``[B, k]``; equal scores keep their order, places without a candidate
    stay behind.

    An item that the ranker cannot score (-inf) comes after those that it can, in the earlier order.

    Args:
        scores: the ranker's.
        best: the candidates, in the order before.
        weight: 1 orders by the scores alone; below, by ``blended`` scores, which are then those of the result.
    """
    if weight < 1:
        scores = blended(scores, best.items, weight)
    lowest = torch.finfo(scores.dtype).min
    scores = scores.clamp(min=lowest).masked_fill(best.items < 0, -torch.inf)
    ordered, places = scores.sort(dim=1, descending=True, stable=True)
    return TopK(best.items.gather(1, places), ordered)


def rerank_with(stage: RerankingStage, context: Context, best: TopK, taken_for: Tensor | None = None) -> TopK:
    """The head of each list in the re-ranker's order, the rest behind it; scores are k - place.

    Args:
        stage: orders the head.
        context: B requests.
        best: the candidates.
        taken_for: as in ``rank_with``.
    """
    head = min(stage.candidates, best.items.shape[1])
    device = _device(stage.reranker)
    items = best.items if taken_for is None else taken_for
    batch = stage.inputs.batch(context, items[:, :head], best.scores[:, :head]).to(device)
    order = stage.reranker.rerank(batch, head).cpu()
    chosen = best.items[:, :head].gather(1, order.clamp(min=0)).masked_fill(order < 0, -1)
    items = torch.cat([chosen, best.items[:, head:]], 1)
    places = torch.arange(items.shape[1], 0, -1, dtype=torch.float32).expand(items.shape)
    return TopK(items, places.masked_fill(items < 0, -torch.inf))


def _device(stage: object) -> torch.device:
    return torch.device(getattr(stage, "device", "cpu"))
