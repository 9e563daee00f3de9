from __future__ import annotations

import itertools
import math

import pytest
import torch

from recascade.nn.plackett_luce import choice_divergence, choice_sets, order_log_likelihood, slot_discounts


def test_probabilities_of_all_orders_add_up_to_one() -> None:
    scores = torch.tensor([[0.3, -1.0, 2.0, 0.0]], dtype=torch.float64)
    mask = torch.ones(1, 4, dtype=torch.bool)
    for slots in (1, 2, 4):
        total = sum(
            float(order_log_likelihood(scores, torch.tensor([order]), mask).sum().exp())
            for order in itertools.permutations(range(4), slots)
        )
        assert total == pytest.approx(1.0)


def test_padding_is_never_a_choice_and_empty_slots_are_certain() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False, False]])
    order = torch.tensor([[0, 1, 2, 3]])
    likelihood = order_log_likelihood(scores, order, mask)
    assert likelihood[0, 0] == pytest.approx(math.log(math.exp(1) / (math.exp(1) + math.exp(2))))
    assert likelihood[0, 1:].tolist() == [0, 0, 0]
    sets = choice_sets(order, mask)
    assert sets[0].tolist() == [
        [True, True, False, False],
        [False, True, False, False],
        [False] * 4,
        [False] * 4,
    ]


def test_divergence_is_that_of_the_two_choices() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(5, 3, 4, generator=generator)
    student = torch.randn(5, 1, 4, generator=generator)
    mask = torch.ones(5, 4, dtype=torch.bool)
    order = torch.stack([torch.randperm(4, generator=generator)[:3] for _ in range(5)])
    sets = choice_sets(order, mask)
    found = choice_divergence(teacher, student, sets, teacher_temperature=2.0, student_temperature=0.5)
    for row, slot in itertools.product(range(5), range(3)):
        left = sets[row, slot]
        p = (teacher[row, slot, left] / 2.0).softmax(0)
        q = (student[row, 0, left] / 0.5).softmax(0)
        assert found[row, slot] == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-5)
    assert (found >= -1e-6).all()


def test_a_shift_of_all_scores_changes_no_choice() -> None:
    scores, order = torch.tensor([[0.5, 1.5, -2.0]]), torch.tensor([[2, 0, 1]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    shifted = order_log_likelihood(scores + 7.0, order, mask)
    assert torch.allclose(shifted, order_log_likelihood(scores, order, mask), atol=1e-5)


def test_discounts_are_those_of_ndcg() -> None:
    assert slot_discounts(3, torch.device("cpu")).tolist() == pytest.approx([1.0, 1 / math.log2(3), 0.5])
