"""Training: one optimiser and one backward pass for both networks, from random weights (paper: jointly, online)."""

from __future__ import annotations

from torch import Tensor

from recascade.contracts.reranker import Reranker
from recascade.data.reranking_batch import RerankingBatch
from recascade.training.config import TrainerConfig
from recascade.training.reranking import RerankingModule
from recascade_psad.model import PSADModel
from recascade_psad.objective import (
    distillation,
    finished_lesson,
    mutual_distillation,
    student_step,
    teacher_step,
)


class PSADModule(RerankingModule):
    """Minimises ``L_T + L_S + λ L_KD`` over the networks that learn; validation measures the one that will serve.

    Args:
        model: what is trained and kept.
        reranker: serves the model.
        trainer: learning rate, monitor and so on.
        teacher_learns: whether the teacher is trained here; one that is not, but exists, is finished.
        student_learns: whether the student is.
    """

    model: PSADModel

    def __init__(
        self,
        model: PSADModel,
        reranker: Reranker,
        trainer: TrainerConfig,
        *,
        teacher_learns: bool,
        student_learns: bool,
    ) -> None:
        super().__init__(model, self._loss, reranker, trainer)
        self.teacher_learns = teacher_learns
        self.student_learns = student_learns

    def distillation_weight(self) -> float:
        """λ in the present epoch: it rises over the first ones, whose teacher knows nothing yet (inferred)."""
        settings = self.model.config.distillation
        if not self.teacher_learns or not settings.warm_up:
            return settings.weight
        return settings.weight * min(1.0, self.current_epoch / settings.warm_up)

    def _loss(self, batch: RerankingBatch) -> Tensor:
        model = self.model
        needs_view = self.student_learns or model.teacher_profile is None
        view = model.profile(batch) if needs_view else None
        taught = teacher_step(model, batch, view) if self.teacher_learns else None
        total = [] if taught is None else [taught.loss]
        if self.student_learns and view is not None:
            scores, loss = student_step(model, batch, view)
            total.append(loss)
            weight = self.distillation_weight()
            if model.teacher is not None and weight:
                settings, mask = model.config.distillation, batch.candidate_mask
                lesson = taught.lesson if taught is not None else finished_lesson(model, batch)
                if lesson is not None:
                    total.append(weight * distillation(settings, lesson, scores, mask))
                    if settings.mutual and taught is not None:
                        total.append(weight * mutual_distillation(model, taught.encoded, lesson, scores))
        summed: Tensor = sum(total[1:], total[0])
        return summed
