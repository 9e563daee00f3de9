"""The two kinds of list model: one that scores candidates, one that fills slots."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch
from recascade.models.evaluation_mode import evaluation_mode
from recascade.nn.list_order import order_by_scores


class ScoringModel(Protocol):
    """An ``nn.Module`` that gives each candidate one score."""

    def list_scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``, finite; what stands in padding means nothing."""
        ...


class SlotModel(Protocol):
    """An ``nn.Module`` that gives each slot of the list a distribution over the candidates."""

    def slot_log_shares(self, batch: RerankingBatch, prefix: Tensor) -> Tensor:
        """Log-probability float ``[B, m, n]`` of candidate i in slot j, -inf where it cannot stand.

        Args:
            batch: B lists.
            prefix: int64 ``[B, m]``, the order that stands before each slot (-1 behind the last candidate); slot j may
                read places before j only.
        """
        ...

    def generate(self, batch: RerankingBatch, count: int) -> Tensor:
        """The model's own order, int64 ``[B, count]``, -1 behind the last candidate."""
        ...


class ScoringReranker:
    """Serves a scoring model; see ``recascade.contracts.reranker.ListScorer``."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where the model computes and wants its batches."""
        return next(self.model.parameters()).device

    def scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``, -inf in padding."""
        scoring: ScoringModel = self.model  # type: ignore[assignment]
        with evaluation_mode(self.model), torch.inference_mode():
            return scoring.list_scores(batch).masked_fill(~batch.candidate_mask, -torch.inf)

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``; of equal scores the earlier place comes first."""
        return order_by_scores(self.scores(batch), batch.candidate_mask, count)


class GeneratingReranker:
    """Serves a slot model; see ``recascade.contracts.reranker.Reranker``."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where the model computes and wants its batches."""
        return next(self.model.parameters()).device

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``."""
        generator: SlotModel = self.model  # type: ignore[assignment]
        with evaluation_mode(self.model), torch.inference_mode():
            return generator.generate(batch, count)
