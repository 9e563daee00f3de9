"""Losses of teacher and student: what they are at the corners, and where their gradients go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from psad_models import psad_model, random_lists
from torch import Tensor

from recascade.nn.plackett_luce import choice_sets
from recascade_psad.blocks import free_before_block
from recascade_psad.config import DISTILLATION_TARGETS, DistillationConfig
from recascade_psad.losses import (
    gold_order,
    list_mle_distillation,
    pairwise_distillation,
    plackett_luce_distillation,
    rank_distillation,
    slot_targets,
    teacher_loss,
)
from recascade_psad.model import PSADModel
from recascade_psad.objective import (
    distillation,
    finished_lesson,
    mutual_distillation,
    student_step,
    teacher_step,
    training_prefix,
    written,
)
from recascade_psad.teacher import Generated

LENGTHS = [10, 7, 1, 4]


def moved(model: PSADModel) -> set[str]:
    """Names of the parts whose parameters got a gradient other than zero."""
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def lesson_of(model: PSADModel, lengths: list[int], seed: int = 0) -> tuple[Generated, Tensor]:
    batch = random_lists(lengths, seed)
    with torch.no_grad():
        return written(model, model.encode(batch, max(lengths))), batch.candidate_mask


@pytest.mark.parametrize("block", (1, 3, 5, 10))
def test_targets_are_distributions_on_what_can_still_be_had(block: int) -> None:
    batch = random_lists(LENGTHS, clicks=3)
    prefix = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(seed)) for seed in range(4)])
    prefix = prefix.gather(1, (prefix >= batch.lengths[:, None]).long().argsort(dim=1, stable=True))
    targets, clicked = slot_targets(batch.labels, batch.candidate_mask, prefix, block)
    free = free_before_block(prefix, batch.candidate_mask, block)
    assert (targets[~free] == 0).all()
    for row, length in enumerate(LENGTHS):
        assert torch.allclose(targets[row, :length].sum(1), torch.ones(length))
        assert (targets[row, length:] == 0).all()
        for slot in range(length):
            left = batch.labels[row] * free[row, slot]
            assert bool(clicked[row, slot]) == bool(left.any())
            expected = left if left.any() else free[row, slot].float()
            assert torch.allclose(targets[row, slot], expected / expected.sum())


@pytest.mark.parametrize("labels", ("none", "all"))
def test_lists_without_a_click_or_with_clicks_only(labels: str) -> None:
    batch = random_lists([6, 3])
    batch = replace(batch, labels=(batch.candidate_mask * (labels == "all")).float())
    model = psad_model()
    view = model.profile(batch)
    taught = teacher_step(model, batch, view)
    scores, loss = student_step(model, batch, view)
    assert taught.lesson is not None
    assert torch.isfinite(taught.loss) and torch.isfinite(loss)
    if labels == "none":
        assert taught.loss == 0 and loss == 0
    (taught.loss + loss + distillation(DistillationConfig(), taught.lesson, scores, batch.candidate_mask)).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_slots_behind_all_clicks_weigh_little() -> None:
    logits = torch.zeros(1, 3, 3)
    labels, mask, prefix = torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool), torch.arange(3)[None]
    # The click costs log 3; then any of two, log 2, and the last, nothing.
    discounts = 1 / torch.log2(torch.tensor([2.0, 3.0, 4.0]))
    for weight in (0.0, 0.1, 1.0):
        weights = discounts * torch.tensor([1.0, weight, weight])
        expected = (weights * torch.tensor([3.0, 2.0, 1.0]).log()).sum() / weights.sum()
        free = free_before_block(prefix, mask, 1)
        found = teacher_loss(logits.masked_fill(~free, -torch.inf), labels, mask, prefix, 1, weight)
        assert torch.allclose(found, expected)


def test_gold_keeps_the_initial_order_among_equals_and_padding_last() -> None:
    mask = torch.tensor([[True, True, True, True, False]])
    labels = torch.tensor([[0.0, 2.0, 0.0, 2.0, 0.0]])
    assert gold_order(labels, mask, 5).tolist() == [[1, 3, 0, 2, 4]]
    assert gold_order(labels, mask, 3).tolist() == [[1, 3, 0]]


@pytest.mark.parametrize("target", DISTILLATION_TARGETS)
def test_distillation_moves_the_student_and_what_it_reads_and_never_the_teacher(target: str) -> None:
    model = psad_model(distillation__target=target)
    batch = random_lists(LENGTHS)
    view = model.profile(batch)
    taught = teacher_step(model, batch, view)
    assert taught.lesson is not None
    scores, _ = student_step(model, batch, view)
    distillation(model.config.distillation, taught.lesson, scores, batch.candidate_mask).backward()
    assert moved(model) == {"student", "profile"}


def test_each_networks_own_loss_leaves_the_other_alone() -> None:
    for shared in (True, False):
        model, batch = psad_model(shared=shared), random_lists(LENGTHS)
        view = model.profile(batch)
        teacher_step(model, batch, view if shared else None).loss.backward()
        assert moved(model) == {"teacher", "profile" if shared else "teacher_profile"}
        model.zero_grad()
        student_step(model, batch, model.profile(batch))[1].backward()
        assert moved(model) == {"student", "profile"}


def test_mutual_learning_moves_the_teacher_as_well() -> None:
    model, batch = psad_model(distillation__mutual=True), random_lists(LENGTHS)
    view = model.profile(batch)
    taught = teacher_step(model, batch, view)
    scores, _ = student_step(model, batch, view)
    assert taught.lesson is not None
    mutual_distillation(model, taught.encoded, taught.lesson, scores).backward()
    assert moved(model) == {"teacher", "profile"}


def test_what_is_taught_does_not_depend_on_labels() -> None:
    model, batch = psad_model(), random_lists(LENGTHS)
    other = replace(batch, labels=batch.labels.flip(1) * batch.candidate_mask)
    lessons = [teacher_step(model, each, model.profile(each)).lesson for each in (batch, other)]
    assert lessons[0] is not None and lessons[1] is not None
    assert torch.equal(lessons[0].order, lessons[1].order)
    assert torch.equal(lessons[0].logits, lessons[1].logits)
    forced = psad_model(distillation__source="forced", teacher__prefix="gold")
    lessons = [teacher_step(forced, each, forced.profile(each)).lesson for each in (batch, other)]
    assert lessons[0] is not None and lessons[1] is not None
    assert not torch.equal(lessons[0].order, lessons[1].order)


@pytest.mark.parametrize("block", (1, 3, 5, 0))
def test_the_taught_choice_at_each_slot_is_what_the_teacher_placed(block: int) -> None:
    for seed in range(5):
        lesson, mask = lesson_of(psad_model(seed, teacher__block=block), LENGTHS, seed)
        sets = choice_sets(lesson.order, mask)
        best = lesson.logits.masked_fill(~sets, -torch.inf).argmax(2)
        for row, length in enumerate(LENGTHS):
            assert torch.equal(best[row, :length], lesson.order[row, :length])


def test_a_student_who_scores_as_the_teacher_has_nothing_to_learn() -> None:
    scores = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    order = scores.masked_fill(~mask, -torch.inf).argsort(1, descending=True)
    logits = scores[:, None].expand(3, 6, 6)
    equal = plackett_luce_distillation(logits, scores[:, None] + 3.0, order, mask, 1.0, 1.0)
    assert torch.allclose(equal, torch.zeros(3), atol=1e-6)
    other = plackett_luce_distillation(logits, -scores[:, None], order, mask, 1.0, 1.0)
    assert (other[:2] > 0.1).all() and other[2] == 0
    warm = plackett_luce_distillation(2 * logits, scores[:, None], order, mask, 2.0, 1.0)
    assert torch.allclose(warm, torch.zeros(3), atol=1e-6)


def test_orders_teach_students_to_sort_that_way() -> None:
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    order = torch.tensor([[3, 0, 5, 1, 4, 2], [2, 0, 3, 1, 4, 5]])
    for loss in (
        lambda s: list_mle_distillation(order, s, mask),
        lambda s: pairwise_distillation(order, s, mask),
        lambda s: rank_distillation(order, s, mask, 1.0),
    ):
        scores = torch.zeros(2, 6, requires_grad=True)
        for _ in range(300):
            (gradient,) = torch.autograd.grad(loss(scores).sum(), scores)
            assert (gradient[~mask] == 0).all()
            scores = (scores - gradient).detach().requires_grad_()
        learnt = scores.masked_fill(~mask, -torch.inf).argsort(1, descending=True)
        assert torch.equal(learnt[0], order[0]) and torch.equal(learnt[1, :4], order[1, :4])


def test_prefixes_are_gold_the_teachers_own_or_each_for_some_lists() -> None:
    batch = random_lists([8] * 60)
    for name, share in (("gold", 0.0), ("self", 1.0), ("mix", 0.5)):
        model = psad_model(teacher__prefix=name).train()
        own = finished_lesson(model, batch)
        prefix = training_prefix(model, batch, own)
        is_own = (prefix == own.order).all(1)
        is_gold = (prefix == gold_order(batch.labels, batch.candidate_mask, 8)).all(1)
        assert (is_own | is_gold).all()
        assert float(is_own.float().mean()) == pytest.approx(share, abs=0.2 if name == "mix" else 0.0)
    assert model.training


def test_a_finished_teacher_is_asked_without_dropout_or_gradient() -> None:
    model, batch = psad_model(train="offline", dropout=0.5).train(), random_lists(LENGTHS)
    first, second = finished_lesson(model, batch), finished_lesson(model, batch)
    assert torch.equal(first.logits, second.logits) and not first.logits.requires_grad


def test_the_lesson_is_written_without_dropout() -> None:
    model, batch = psad_model(dropout=0.5).train(), random_lists(LENGTHS)
    encoded = model.encode(batch, 10)
    first, second = written(model, encoded), written(model, encoded)
    assert torch.equal(first.logits, second.logits) and not first.logits.requires_grad
    assert model.training
