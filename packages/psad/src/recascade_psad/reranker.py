"""The two ways in which PSAD answers: one pass of the student and a sort, or the teacher's blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade.models.evaluation_mode import evaluation_mode
from recascade.nn.list_order import order_by_scores, surplus_marked
from recascade_psad.model import PSADModel


class StudentReranker:
    """Sorts by the student's scores; equals keep the earlier stage's order.

    Args:
        model: with a student.
    """

    def __init__(self, model: PSADModel) -> None:
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``, greater is better, -inf in padding."""
        with evaluation_mode(self.model):
            return self.model.scores(batch)

    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``, best first; -1 where a list has fewer candidates."""
        return order_by_scores(self.scores(batch), batch.candidate_mask, count)


class TeacherReranker:
    """Writes the list block by block.

    Args:
        model: with a teacher.
    """

    def __init__(self, model: PSADModel) -> None:
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def rerank(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``, best first, the head of the whole list; -1 where a list has fewer candidates."""
        assert self.model.teacher is not None
        places = batch.candidate_mask.shape[1]
        size = self.model.teacher.block_size(places)
        # Whole blocks: the slots of a block see each other, so that a block cut short would be another one.
        slots = min(-(-count // size) * size, places)
        with evaluation_mode(self.model):
            order = self.model.generate(self.model.encode(batch, slots)).order
        return surplus_marked(order[:, :count], batch.candidate_mask, count)
