"""RSPO, its relatives and its bound, against plain double-precision loops."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recascade.nn.preference_losses import dpo_loss, s_dpo_loss
from recascade_gr4ad.preference import list_dpo, list_grpo, list_s_dpo
from recascade_gr4ad.rspo import mean_over_anchors, pair_weights, pairs, ranks_of, reference_gate, rspo_loss
from recascade_gr4ad.unified import rank_discrepancy, unified_weights


class Lists(NamedTuple):
    log_probs: Tensor
    reference: Tensor
    recorded: Tensor
    grades: Tensor
    mask: Tensor


def lists(count: int = 50, length: int = 7, seed: int = 0) -> Lists:
    """Random lists, some with absent candidates, with ties of value, some without a recorded reference."""
    random = torch.Generator().manual_seed(seed)
    log_probs = -3 * torch.rand(count, length, generator=random, dtype=torch.float64) - 5
    reference = log_probs + 0.8 * torch.randn(count, length, generator=random, dtype=torch.float64)
    grades = torch.randint(0, 8, (count, length), generator=random).double() * 4 / 7
    recorded = torch.rand(count, generator=random) < 0.7
    mask = torch.rand(count, length, generator=random) < 0.85
    return Lists(log_probs, reference, recorded, grades, mask)


def full(given: Lists) -> Lists:
    return given._replace(mask=torch.ones_like(given.mask), recorded=torch.ones_like(given.recorded))


def naive_rspo(given: Lists, row: int, beta: float, threshold: float) -> list[float]:
    """Equations 16 to 18 as printed, one candidate at a time."""
    here = [k for k in range(given.mask.shape[1]) if given.mask[row, k]]
    p, q = given.log_probs[row].tolist(), given.reference[row].tolist()
    v = given.grades[row].tolist()
    place = {k: r for r, k in enumerate(sorted(here, key=lambda k: -p[k]))}
    ideal = sum((2 ** v[k] - 1) / math.log2(2 + r) for r, k in enumerate(sorted(here, key=lambda k: -v[k])))
    gain = {k: (2 ** v[k] - 1) / ideal if ideal else 0.0 for k in here}
    losses = [0.0] * len(p)
    for i in here:
        below = [j for j in here if v[j] < v[i]]
        if not below:
            continue
        moved = sum(abs(p[k] - q[k]) for k in [*below, i]) / (len(below) + 1)
        gate = 1.0 if given.recorded[row] and moved < threshold else 0.0
        total = 0.0
        for j in below:
            distance = abs(place[i] - place[j])
            weight = abs(1 / math.log2(1 + distance) - 1 / math.log2(2 + distance)) * abs(gain[i] - gain[j])
            total += weight * math.exp(beta * (p[j] - gate * q[j]) - beta * (p[i] - gate * q[i]))
        losses[i] = -math.log2(1 / (1 + math.exp(math.log(total))))
    return losses


@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.5, math.inf])
def test_the_loss_is_equation_16(beta: float, threshold: float) -> None:
    given = lists()
    found = rspo_loss(*given, beta=beta, threshold=threshold)
    for row in range(len(found)):
        expected = torch.tensor(naive_rspo(given, row, beta, threshold), dtype=torch.float64)
        torch.testing.assert_close(found[row], expected, atol=1e-12, rtol=1e-12)


def test_without_weights_and_with_the_reference_it_is_s_dpo() -> None:
    given = full(lists())
    found = rspo_loss(*given, beta=0.7, threshold=math.inf, weights="uniform") * math.log(2)
    ratios = given.log_probs - given.reference
    for anchor in range(7):
        negatives = given.grades < given.grades[:, anchor : anchor + 1]
        expected = s_dpo_loss(ratios[:, anchor], ratios, negatives, 0.7)
        torch.testing.assert_close(found[:, anchor], expected, atol=1e-12, rtol=0)


def test_two_candidates_without_weights_are_dpo() -> None:
    given = full(lists(length=2))
    given.grades[:, 0], given.grades[:, 1] = 1.0, 0.0
    found = rspo_loss(*given, beta=0.7, threshold=math.inf, weights="uniform")
    ratios = given.log_probs - given.reference
    expected = dpo_loss(ratios[:, 0], ratios[:, 1], 0.7)
    torch.testing.assert_close(found[:, 0] * math.log(2), expected, atol=1e-12, rtol=0)
    assert (found[:, 1] == 0).all()
    torch.testing.assert_close(list_dpo(ratios, given.grades, given.mask, 0.7), expected.mean(), atol=1e-12, rtol=0)
    torch.testing.assert_close(list_s_dpo(ratios, given.grades, given.mask, 0.7), expected.mean(), atol=1e-12, rtol=0)


def test_equal_weights_are_a_margin_inside_the_sigmoid() -> None:
    """With two grades of two candidates M is one number m: the loss is that of S-DPO with the margin -log m."""
    given = full(lists(length=2))
    given.grades[:, 0], given.grades[:, 1] = 2.0, 0.0
    weight = pair_weights(given.grades, ranks_of(given.log_probs, given.mask), given.mask)[:, 0, 1]
    found = rspo_loss(*given, threshold=math.inf)[:, 0] * math.log(2)
    ratios = given.log_probs - given.reference
    expected = torch.nn.functional.softplus(ratios[:, 1] - ratios[:, 0] + weight.log())
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_without_a_recorded_reference_the_reference_does_not_matter() -> None:
    given = lists()._replace(recorded=torch.zeros(50, dtype=torch.bool))
    nothing = given._replace(reference=torch.full_like(given.reference, torch.nan))
    assert torch.equal(rspo_loss(*given, threshold=math.inf), rspo_loss(*nothing, threshold=math.inf))


def test_the_order_of_a_list_and_a_constant_do_not_matter() -> None:
    given = lists()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    mixed = Lists(*(part[:, order] if part.dim() == 2 else part for part in given))
    loss = rspo_loss(*given, threshold=0.8)
    torch.testing.assert_close(rspo_loss(*mixed, threshold=0.8), loss[:, order], atol=1e-12, rtol=0)
    shifted = given._replace(log_probs=given.log_probs + 3.0)
    for threshold in (0.0, math.inf):
        found = rspo_loss(*shifted, threshold=threshold)
        torch.testing.assert_close(found, rspo_loss(*given, threshold=threshold), atol=1e-12, rtol=0)


def test_extreme_probabilities_neither_overflow_nor_lose_their_gradient() -> None:
    log_probs = torch.tensor([[-1000.0, 0.0, -500.0]], requires_grad=True)
    one, ones = torch.ones(1, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    loss = rspo_loss(log_probs, torch.zeros(1, 3), one, torch.tensor([[4.0, 0.0, 0.0]]), ones, threshold=0.0)
    loss.sum().backward()
    assert loss.isfinite().all() and loss[0, 0] > 1000
    assert log_probs.grad is not None and log_probs.grad.isfinite().all() and log_probs.grad[0, 0] < -1


def test_absent_candidates_and_empty_lists_have_neither_loss_nor_gradient() -> None:
    given = lists()
    given.mask[0] = False
    given.mask[1, 1:] = False
    hidden = torch.where(given.mask, given.log_probs, torch.full_like(given.log_probs, -torch.inf))
    hidden.requires_grad_()
    loss = rspo_loss(hidden, given.reference, given.recorded, given.grades, given.mask)
    mean_over_anchors(loss, given.grades, given.mask).backward()
    assert hidden.grad is not None and hidden.grad.isfinite().all()
    assert (hidden.grad[~given.mask] == 0).all() and (loss[:2] == 0).all()


def lost_ndcg(given: Lists) -> Tensor:
    """``[B]``: what the NDCG's pairwise form charges for the pairs in the wrong order, by the model's ranks."""
    weights = pair_weights(given.grades, ranks_of(given.log_probs, given.mask), given.mask)
    wrong = pairs(given.grades, given.mask) & (given.log_probs[:, None, :] > given.log_probs[:, :, None])
    return (weights * wrong).sum((1, 2))


def test_the_pairwise_form_is_the_lost_ndcg_up_to_a_constant_of_the_ranks() -> None:
    """Appendix A.1, step a: with model ranks, the two orders of each pair differ by their share of the NDCG."""
    given = full(lists(count=20, length=6))
    ranks = ranks_of(given.log_probs, given.mask)
    gains = torch.exp2(given.grades) - 1
    ideal = (gains.sort(1, descending=True).values / torch.log2(torch.arange(2, 8).double())).sum(1, keepdim=True)
    gains = gains / ideal
    cost = (gains * (1 - 1 / torch.log2(ranks.double() + 2))).sum(1)
    distance = (ranks[:, :, None] - ranks[:, None, :]).abs().clamp(min=1).double()
    discounts = 1 / torch.log2(1 + distance) - 1 / torch.log2(2 + distance)
    # What is charged whatever the order: for each pair the smaller of the two gains.
    least = torch.minimum(gains[:, :, None], gains[:, None, :]) * discounts
    constant = least.triu(1).sum((1, 2))
    torch.testing.assert_close(lost_ndcg(given) + constant, cost, atol=1e-10, rtol=0)


def test_the_loss_bounds_the_lost_ndcg() -> None:
    """Appendix A.1: no violation in 20,000 lists, although a step of the paper's proof fails (next test)."""
    for seed in range(10):
        given = full(lists(count=2000, length=4 + seed, seed=seed))
        loss = rspo_loss(*given, threshold=0.0).sum(1)
        assert (lost_ndcg(given) <= loss + 1e-12).all()


def test_the_intermediate_step_of_the_papers_proof_does_not_hold() -> None:
    """One valuable candidate in the middle of seven: Σ M log2(1 + e^d) is above log2(1 + Σ M e^d), because candidates
    of E_i stand on both sides, so Σ M exceeds 1. The end-to-end bound holds all the same; nobody should 'mend' it."""
    length, middle = 7, 3
    log_probs = -torch.arange(length, dtype=torch.float64)[None] * 1e-4
    grades = torch.zeros(1, length, dtype=torch.float64)
    grades[0, middle] = 4.0
    mask = torch.ones(1, length, dtype=torch.bool)
    weights = pair_weights(grades, ranks_of(log_probs, mask), mask)[0, middle]
    others = torch.arange(length) != middle
    margins = log_probs[0, others] - log_probs[0, middle]
    assert weights[others].sum() > 1
    left = (weights[others] * torch.log2(1 + margins.exp())).sum()
    right = torch.log2(1 + (weights[others] * margins.exp()).sum())
    assert left.item() == pytest.approx(1.1386, abs=2e-3) and right.item() == pytest.approx(1.0967, abs=2e-3)
    # By the values' own order all of them stand below, and the step holds.
    by_value = pair_weights(grades, ranks_of(grades, mask), mask)[0, middle]
    assert by_value[others].sum() < 1


def test_the_gate_closes_where_the_policy_has_moved() -> None:
    given = lists()
    worse = pairs(given.grades, given.mask)

    def gate(threshold: float, recorded: Tensor = given.recorded) -> Tensor:
        return reference_gate(given.log_probs, given.reference, recorded, worse, given.mask, threshold)

    assert (gate(0.0) == 0).all()
    assert torch.equal(gate(math.inf), (given.recorded[:, None] & given.mask).double())
    assert (gate(math.inf, torch.zeros(50, dtype=torch.bool)) == 0).all()
    between = gate(0.7)
    assert 0 < between.sum() < gate(math.inf).sum()
    still = reference_gate(given.log_probs, given.log_probs, given.recorded, worse, given.mask, 1e-9)
    assert torch.equal(still, gate(math.inf))


def test_no_gradient_goes_through_gate_weights_or_reference() -> None:
    given = full(lists(count=5))
    log_probs, reference = given.log_probs.clone().requires_grad_(), given.reference.clone().requires_grad_()
    rspo_loss(log_probs, reference, given.recorded, given.grades, given.mask, threshold=0.7).sum().backward()
    assert reference.grad is None
    worse = pairs(given.grades, given.mask)
    weights = pair_weights(given.grades, ranks_of(given.log_probs, given.mask), given.mask)
    gate = reference_gate(given.log_probs, given.reference, given.recorded, worse, given.mask, 0.7)[..., None]
    fixed = given.log_probs.clone().requires_grad_()
    g = fixed[:, None, :] - gate * given.reference[:, None, :]
    own = fixed[:, :, None] - gate * given.reference[:, :, None]
    torch.log2(1 + (weights * worse * (g - own).exp()).sum(-1)).sum().backward()
    torch.testing.assert_close(log_probs.grad, fixed.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("objective", ["rspo", "uniform", "dpo", "s-dpo", "grpo"])
def test_valuable_candidates_rise_and_worthless_ones_fall(objective: str) -> None:
    log_probs = torch.full((1, 5), -6.0, dtype=torch.float64, requires_grad=True)
    grades = torch.tensor([[0.0, 4.0, 2.0, 1.0, 3.0]], dtype=torch.float64)
    mask, recorded = torch.ones(1, 5, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    reference = torch.full_like(log_probs, -6.0).detach()
    ratios = log_probs - reference
    if objective in ("rspo", "uniform"):
        weights = "lambda" if objective == "rspo" else "uniform"
        loss = rspo_loss(log_probs, reference, recorded, grades, mask, weights=weights).sum()
    elif objective == "grpo":
        loss = list_grpo(log_probs, reference, grades, mask, clip=0.2, divergence_weight=0.1)
    else:
        loss = (list_dpo if objective == "dpo" else list_s_dpo)(ratios, grades, mask, 1.0)
    loss.backward()
    assert log_probs.grad is not None
    assert log_probs.grad[0, 1] < 0 < log_probs.grad[0, 0]


def test_candidates_of_equal_value_say_nothing() -> None:
    given = full(lists())
    given.grades[:] = 2.0
    log_probs = given.log_probs.clone().requires_grad_()
    losses = rspo_loss(log_probs, given.reference, given.recorded, given.grades, given.mask)
    mean = mean_over_anchors(losses, given.grades, given.mask)
    ratios = log_probs - given.reference
    total = mean + list_dpo(ratios, given.grades, given.mask, 1.0) + list_s_dpo(ratios, given.grades, given.mask, 1.0)
    total = total + list_grpo(log_probs, given.reference, given.grades, given.mask, clip=0.2, divergence_weight=0.0)
    total.backward()
    assert total.item() == 0 and (log_probs.grad == 0).all()


def test_discrepancy_and_weights_at_their_ends() -> None:
    log_probs = torch.tensor([[-1.0, -2.0, -3.0, -4.0]] * 2, dtype=torch.float64)
    grades = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    mask = torch.ones(2, 4, dtype=torch.bool)
    discrepancy = rank_discrepancy(log_probs, grades, mask)
    assert (discrepancy[0] == 0).all()
    assert discrepancy[1].tolist() == pytest.approx([1.0, 1 / 3, 1 / 3, 1.0])
    aligned, reversed_ = (unified_weights(discrepancy[row], grades[row], base=2.0, most_ranking=0.5) for row in (0, 1))
    assert aligned.imitation.tolist() == [2.0] * 4 and aligned.ranking.tolist() == [1.0] * 4
    assert reversed_.imitation[0] == pytest.approx(2.0 * (1 + 1.0)) and reversed_.ranking[0] == 0
    assert reversed_.imitation[3] == pytest.approx(2.0 * (1 + 4.0)) and reversed_.ranking[3] == 0


def test_ties_of_value_cost_no_discrepancy_and_a_list_of_one_has_none() -> None:
    log_probs = torch.tensor([[-3.0, -1.0, -2.0]])
    equal = torch.ones(1, 3)
    assert (rank_discrepancy(log_probs, equal, torch.ones(1, 3, dtype=torch.bool)) == 0).all()
    one = torch.tensor([[False, True, False]])
    assert (rank_discrepancy(log_probs, torch.tensor([[5.0, 1.0, 3.0]]), one) == 0).all()


@given(st.lists(st.tuples(st.floats(-20, 0), st.integers(0, 7)), min_size=1, max_size=12))
def test_unified_weights_are_never_negative(candidates: list[tuple[float, int]]) -> None:
    log_probs = torch.tensor([[score for score, _ in candidates]])
    grades = torch.tensor([[value * 4 / 7 for _, value in candidates]])
    mask = torch.ones_like(grades, dtype=torch.bool)
    discrepancy = rank_discrepancy(log_probs, grades, mask)
    weights = unified_weights(discrepancy, grades)
    assert (discrepancy >= 0).all() and (discrepancy <= 1).all()
    assert (weights.imitation >= 1).all() and (weights.ranking >= 0).all()
