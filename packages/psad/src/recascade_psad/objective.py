"""What one batch asks of teacher and student: to learn from clicks, and one of them from the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recascade.data.reranking_batch import RerankingBatch
from recascade.models.evaluation_mode import evaluation_mode
from recascade.nn.list_losses import click_log_loss, listwise_softmax
from recascade_psad.config import DistillationConfig
from recascade_psad.losses import (
    first_choice_distillation,
    gold_order,
    list_mle_distillation,
    pairwise_distillation,
    plackett_luce_distillation,
    rank_distillation,
    teacher_loss,
)
from recascade_psad.model import Encoded, PSADModel
from recascade_psad.teacher import Generated
from recascade_psad.user_profile_network import UserView


@dataclass(frozen=True)
class TeacherStep:
    """What the teacher did with a batch.

    Attributes:
        loss: scalar with gradient, on clicks.
        encoded: what its passes read, with gradient.
        lesson: what the student may learn from: its own lists, or those it was trained on; None where neither the
            prefix nor the student asked for one.
    """

    loss: Tensor
    encoded: Encoded
    lesson: Generated | None


def teacher_step(model: PSADModel, batch: RerankingBatch, view: UserView | None) -> TeacherStep:
    """One training pass of the teacher behind a prefix (inferred).

    Args:
        model: in training mode.
        batch: lists with labels.
        view: of the batch by the shared User Profile Network; None where the teacher has its own.
    """
    settings, free_running = model.config.teacher, model.config.distillation.source == "free"
    encoded = model.encode(batch, _slots(model, batch), view)
    taught = model.config.train == "joint" and free_running and model.config.distillation.weight > 0
    own = written(model, encoded) if taught or settings.prefix != "gold" else None
    prefix = training_prefix(model, batch, own)
    logits = model.teach(encoded, prefix)
    assert model.teacher is not None
    size = model.teacher.block_size(prefix.shape[1])
    loss = teacher_loss(logits, batch.labels, batch.candidate_mask, prefix, size, settings.unclicked_weight)
    lesson = own if free_running else Generated(prefix, logits.detach())
    return TeacherStep(loss, encoded, lesson)


@torch.no_grad()
def finished_lesson(model: PSADModel, batch: RerankingBatch) -> Generated:
    """What a teacher that learns no more says of a batch."""
    with evaluation_mode(model):
        encoded = model.encode(batch, _slots(model, batch))
        own = model.generate(encoded)
        if model.config.distillation.source == "free":
            return own
        prefix = training_prefix(model, batch, own)
        return Generated(prefix, model.teach(encoded, prefix))


def student_step(model: PSADModel, batch: RerankingBatch, view: UserView) -> tuple[Tensor, Tensor]:
    """The student's scores ``[B, n]`` and their loss on clicks, both with gradient."""
    assert model.student is not None
    scores: Tensor = model.student(view)
    loss = listwise_softmax if model.config.student.loss == "listwise" else click_log_loss
    return scores, loss(scores, batch.labels, batch.candidate_mask)


@torch.no_grad()
def written(model: PSADModel, encoded: Encoded) -> Generated:
    """The teacher's present answer: without labels, dropout in the decoder, or gradient."""
    with evaluation_mode(model):
        return model.generate(encoded)


def training_prefix(model: PSADModel, batch: RerankingBatch, own: Generated | None) -> Tensor:
    """int64 ``[B, m]``: what the decoder reads in training, the list by labels or the teacher's own."""
    settings = model.config.teacher
    gold = gold_order(batch.labels, batch.candidate_mask, _slots(model, batch))
    if own is None or settings.prefix == "gold":
        return gold
    if settings.prefix == "self":
        return own.order
    chosen = torch.rand(len(gold), 1, device=gold.device) < settings.self_share
    return torch.where(chosen, own.order, gold)


def distillation(settings: DistillationConfig, lesson: Generated, scores: Tensor, mask: Tensor) -> Tensor:
    """Scalar: what separates the student's scores ``[B, n]`` from the teacher's lesson, which gets no gradient."""
    order, logits = lesson.order, lesson.logits
    warmth = (settings.temperature, settings.student_temperature)
    if settings.target == "plackett-luce":
        each = plackett_luce_distillation(logits, scores[:, None], order, mask, *warmth)
    elif settings.target == "first":
        each = first_choice_distillation(logits, scores, mask, *warmth)
    elif settings.target == "rank":
        each = rank_distillation(order, scores, mask, settings.temperature)
    elif settings.target == "listmle":
        each = list_mle_distillation(order, scores, mask)
    else:
        each = pairwise_distillation(order, scores, mask)
    return each.mean()


def mutual_distillation(model: PSADModel, encoded: Encoded, lesson: Generated, scores: Tensor) -> Tensor:
    """Scalar: the teacher's distance from the student along the same lists, with gradient to the teacher alone."""
    settings = model.config.distillation
    logits = model.teach(encoded, lesson.order)
    student = scores.detach()[:, None].expand(logits.shape)
    each = plackett_luce_distillation(
        student, logits, lesson.order, encoded.mask, settings.student_temperature, settings.temperature
    )
    return each.mean()


def _slots(model: PSADModel, batch: RerankingBatch) -> int:
    candidates = batch.candidate_mask.shape[1]
    return min(model.config.slots or candidates, candidates)
