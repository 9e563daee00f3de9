from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from no_looking import NoLooking
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from recascade.nn import softmax_operators
from recascade.nn.losses import binary_cross_entropy, full_softmax, sampled_softmax


def leaf(*shape: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, dtype=dtype) * scale).requires_grad_()


def assert_same_gradients(loss: Tensor, expected: Tensor, leaves: tuple[Tensor, ...], **tolerance: float) -> None:
    torch.testing.assert_close(loss, expected, **tolerance)
    for gradient, wanted in zip(
        torch.autograd.grad(3 * loss, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, **tolerance)


@settings(max_examples=25)
@given(
    positions=st.integers(1, 40),
    items=st.integers(1, 50),
    chunk=st.one_of(st.none(), st.integers(1, 45)),
    temperature=st.sampled_from([1.0, 0.05, 2.0]),
    biased=st.booleans(),
)
def test_full_softmax_equals_cross_entropy(
    positions: int, items: int, chunk: int | None, temperature: float, biased: bool
) -> None:
    torch.manual_seed(positions * 50 + items)
    states, vectors, bias = leaf(positions, 6), leaf(items, 6), leaf(items)
    targets = torch.randint(0, items, (positions,))
    loss = full_softmax(states, vectors, targets, bias=bias if biased else None, temperature=temperature, chunk=chunk)
    expected = cross_entropy(states @ vectors.t() / temperature + (bias if biased else 0), targets)
    assert_same_gradients(loss, expected, (states, vectors, bias) if biased else (states, vectors))


def test_full_softmax_in_single_precision() -> None:
    torch.manual_seed(0)
    states, vectors = leaf(300, 16, dtype=torch.float32), leaf(1001, 16, dtype=torch.float32)
    targets = torch.randint(0, 1001, (300,))
    loss = full_softmax(states, vectors, targets)
    exact = cross_entropy(states.double() @ vectors.double().t(), targets)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    for gradient, wanted in zip(
        torch.autograd.grad(loss, (states, vectors)), torch.autograd.grad(exact, (states, vectors)), strict=True
    ):
        torch.testing.assert_close(gradient, wanted.float(), rtol=1e-4, atol=1e-7)


def test_states_with_several_targets_equal_repeated_states() -> None:
    torch.manual_seed(0)
    states, vectors, bias = leaf(11, 4), leaf(30, 4), leaf(30)
    owners = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3, 9, 10, 10])
    targets = torch.randint(0, 30, (11,))
    targets[1] = targets[0]
    loss = full_softmax(states, vectors, targets, owners=owners, bias=bias, chunk=3)
    expected = cross_entropy(states[owners] @ vectors.t() + bias, targets)
    assert_same_gradients(loss, expected, (states, vectors, bias))


def test_scores_far_apart_keep_their_loss() -> None:
    states = torch.tensor([[1.0], [1.0]], requires_grad=True)
    vectors = torch.tensor([[500.0], [0.0], [-500.0]], requires_grad=True)
    loss = full_softmax(states, vectors, torch.tensor([2, 0]))
    torch.testing.assert_close(loss, torch.tensor(500.0))
    loss.backward()
    assert torch.isfinite(states.grad).all()


def test_without_gradients_the_value_is_the_same() -> None:
    states, vectors, targets = torch.randn(70, 4), torch.randn(33, 4), torch.randint(0, 33, (70,))
    with torch.no_grad():
        value = full_softmax(states.requires_grad_(), vectors, targets)
    assert not value.requires_grad
    torch.testing.assert_close(value, full_softmax(states, vectors, targets).detach())


def test_only_one_side_may_need_gradients() -> None:
    states, vectors, targets = leaf(9, 4), torch.randn(12, 4, dtype=torch.float64), torch.randint(0, 12, (9,))
    assert_same_gradients(
        full_softmax(states, vectors, targets), cross_entropy(states @ vectors.t(), targets), (states,)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_items_without_a_target_learn_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    states, vectors = leaf(128, 8, dtype=torch.float32), leaf(200_000, 8, dtype=torch.float32, scale=0.1)
    targets = torch.randint(0, 128, (128,))
    exact = torch.autograd.grad(full_softmax(states, vectors, targets), vectors)[0][128:]
    with torch.autocast("cpu", dtype=dtype):
        loss = full_softmax(states, vectors, targets)
    # As a gradient scaler does: the factor is taken out again after the backward pass.
    found = (torch.autograd.grad(loss * 2.0**16, vectors)[0] / 2.0**16)[128:]
    assert float((found - exact).norm() / exact.norm()) < 1e-2


def test_autocast_stays_near_single_precision() -> None:
    torch.manual_seed(0)
    states, vectors = leaf(64, 16, dtype=torch.float32), leaf(200, 16, dtype=torch.float32)
    targets = torch.randint(0, 200, (64,))
    exact = torch.autograd.grad(full_softmax(states, vectors, targets), (states, vectors))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = full_softmax(states, vectors, targets)
    for gradient, wanted in zip(torch.autograd.grad(loss, (states, vectors)), exact, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, wanted, rtol=0.1, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("blocks", [0, 4, 64], ids=["batch", "block", "position"])
@pytest.mark.parametrize("loss", [sampled_softmax, binary_cross_entropy])
def test_losses_of_samples_stay_near_single_precision_under_autocast(
    loss: Callable[..., Tensor], blocks: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    leaves = [leaf(*shape, dtype=torch.float32) for shape in ((64, 16), (64, 16), (blocks, 500, 16)[not blocks :])]
    collisions = torch.rand(64, 500) < 0.05
    exact = loss(*leaves, collisions=collisions)
    with torch.autocast("cpu", dtype=dtype):
        found = loss(*leaves, collisions=collisions)
    assert found.dtype == torch.float32
    # Sums over 500 negatives in bfloat16 itself would be wrong by several per cent.
    torch.testing.assert_close(found, exact, rtol=2e-3, atol=0.0)
    for gradient, wanted in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(exact, leaves), strict=True):
        assert float((gradient - wanted).norm() / wanted.norm()) < 2e-2


@pytest.mark.parametrize("shared", [True, False])
def test_sampled_softmax_equals_cross_entropy_over_candidates(shared: bool) -> None:
    torch.manual_seed(0)
    states, positives = leaf(8, 5), leaf(8, 5)
    negatives = leaf(6, 5) if shared else leaf(8, 6, 5)
    log_q_positive = torch.rand(8, dtype=torch.float64).log()
    log_q_negative = torch.rand(6 if shared else (8, 6), dtype=torch.float64).log()
    collisions = torch.rand(8, 6) < 0.2
    loss = sampled_softmax(
        states,
        positives,
        negatives,
        log_q_positive=log_q_positive,
        log_q_negative=log_q_negative,
        collisions=collisions,
        temperature=0.5,
    )
    every = negatives.expand(8, 6, 5) if shared else negatives
    scores = torch.einsum("pd,pnd->pn", states, every) / 0.5 - log_q_negative
    scores = scores.masked_fill(collisions, -torch.inf)
    first = (states * positives).sum(1) / 0.5 - log_q_positive
    expected = cross_entropy(torch.cat([first[:, None], scores], 1), torch.zeros(8, dtype=torch.int64))
    assert_same_gradients(loss, expected, (states, positives, negatives))


@pytest.mark.parametrize("shared", [True, False])
def test_a_position_whose_negatives_all_collide_has_no_loss(shared: bool) -> None:
    states, positives = leaf(2, 5), leaf(2, 5)
    negatives = leaf(1, 5) if shared else leaf(2, 1, 5)
    collisions = torch.tensor([[True], [False]])
    loss = sampled_softmax(states, positives, negatives, collisions=collisions)
    alone = cross_entropy(
        torch.stack([states[1] @ positives[1], states[1] @ negatives.view(-1, 5)[-1]])[None], torch.tensor([0])
    )
    torch.testing.assert_close(loss, alone / 2)
    loss.backward()
    assert states.grad is not None and not states.grad[0].any()


def test_more_positions_than_one_chunk_of_shared_negatives() -> None:
    torch.manual_seed(0)
    states, positives, negatives = leaf(2500, 3), leaf(2500, 3), leaf(7, 3)
    scores = torch.cat([(states * positives).sum(1, keepdim=True), states @ negatives.t()], 1)
    expected = cross_entropy(scores, torch.zeros(2500, dtype=torch.int64))
    assert_same_gradients(sampled_softmax(states, positives, negatives), expected, (states, positives, negatives))


def test_log_q_correction_estimates_the_full_softmax() -> None:
    torch.manual_seed(0)
    items, positions = 200, 4
    states, vectors = torch.randn(positions, 4), torch.randn(items, 4)
    targets = torch.randint(0, items, (positions,))
    shares = torch.rand(items) + 0.05
    shares /= shares.sum()
    drawn = torch.multinomial(shares, 200_000, replacement=True)
    negatives = vectors[drawn]
    # With the expected count of a draw instead of its probability, the sum over draws estimates the sum over all items.
    log_counts = (shares * len(drawn)).log()
    value = sampled_softmax(
        states, vectors[targets], negatives, log_q_negative=log_counts[drawn], collisions=targets[:, None] == drawn
    )
    torch.testing.assert_close(value, cross_entropy(states @ vectors.t(), targets), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("shared", [True, False])
def test_binary_cross_entropy_is_the_papers_formula(shared: bool) -> None:
    torch.manual_seed(0)
    states, positives = leaf(8, 5), leaf(8, 5)
    negatives = leaf(3, 5) if shared else leaf(8, 3, 5)
    collisions = torch.rand(8, 3) < 0.3
    loss = binary_cross_entropy(states, positives, negatives, collisions=collisions)
    scores = torch.einsum("pd,pnd->pn", states, negatives.expand(8, 3, 5))
    rejected = (logsigmoid(-scores) * ~collisions).sum(1)
    expected = -(logsigmoid((states * positives).sum(1)) + rejected).mean()
    assert_same_gradients(loss, expected, (states, positives, negatives))


@pytest.mark.parametrize(("positions", "blocks"), [(9, 3), (10, 4), (5, 4), (7, 7)])
def test_each_block_of_positions_sees_its_own_negatives(positions: int, blocks: int) -> None:
    torch.manual_seed(positions)
    size = -(-positions // blocks)
    states, positives, negatives = leaf(positions, 4), leaf(positions, 4), leaf(blocks, 6, 4)
    log_q = torch.rand(blocks, 6, dtype=torch.float64)
    own = torch.arange(positions) // size
    loss = sampled_softmax(states, positives, negatives, log_q_negative=log_q)
    expected = sampled_softmax(states, positives, negatives[own], log_q_negative=log_q[own])
    assert_same_gradients(loss, expected, (states, positives, negatives))
    loss = binary_cross_entropy(states, positives, negatives)
    assert_same_gradients(loss, binary_cross_entropy(states, positives, negatives[own]), (states, positives, negatives))


@pytest.fixture
def as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps that never look at data, run on a CPU."""
    monkeypatch.setattr(softmax_operators, "_looking_is_free", lambda device: False)


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_full_softmax_is_the_same_without_looking_at_data(owned: bool, biased: bool) -> None:
    torch.manual_seed(0)
    states, vectors, bias = leaf(11, 4), leaf(30, 4), leaf(30)
    owners = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3, 9, 10, 10]) if owned else torch.arange(11)
    targets = torch.randint(0, 30, (11,))
    with NoLooking():
        loss = full_softmax(
            states, vectors, targets, owners=owners if owned else None, bias=bias if biased else None, chunk=3
        )
        torch.autograd.grad(loss, states, retain_graph=True)
    expected = cross_entropy((states @ vectors.t() + (bias if biased else 0))[owners], targets)
    assert_same_gradients(loss, expected, (states, vectors, bias) if biased else (states, vectors))


@pytest.mark.usefixtures("as_on_an_accelerator")
def test_sampled_softmax_is_the_same_without_looking_at_data() -> None:
    torch.manual_seed(0)
    leaves = states, positives, negatives = leaf(20, 4), leaf(20, 4), leaf(7, 4)
    collisions = torch.rand(20, 7) < 0.3
    with NoLooking():
        loss = sampled_softmax(states, positives, negatives, collisions=collisions)
    scores = torch.cat([(states * positives).sum(1, keepdim=True), states @ negatives.t()], dim=1)
    scores = scores.masked_fill(torch.cat([torch.zeros(20, 1, dtype=torch.bool), collisions], dim=1), -torch.inf)
    assert_same_gradients(loss, -scores.log_softmax(1)[:, 0].mean(), leaves)


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_operators_keep_pytorchs_rules(differentiable: bool, biased: bool) -> None:
    states, vectors, bias = leaf(6, 4), leaf(9, 4), leaf(9) if biased else None
    arguments = (states, vectors, torch.arange(6), None, bias, 0.5, None, torch.float64, differentiable)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(softmax_operators.softmax_with_gradients, arguments, test_utils=checks)
    shared = (states, vectors, None, torch.zeros(6, 9, dtype=torch.bool))
    torch.library.opcheck(softmax_operators.shared_log_sum_exp, shared, test_utils=checks)
