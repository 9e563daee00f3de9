from __future__ import annotations

import math

import pytest
import torch

from recascade.nn.preference_losses import dpo_loss, group_advantages, grpo_loss, masked_logsumexp, s_dpo_loss


def test_dpo_is_the_log_loss_of_a_preference() -> None:
    chosen, rejected = torch.tensor([0.3, -2.0]).double(), torch.tensor([0.1, 1.0]).double()
    expected = -torch.log(torch.sigmoid(0.5 * (chosen - rejected)))
    torch.testing.assert_close(dpo_loss(chosen, rejected, 0.5), expected)
    assert dpo_loss(torch.tensor(-1e4), torch.tensor(1e4), 1.0) == 2e4


def test_s_dpo_by_its_formula_and_as_dpo_with_one_negative() -> None:
    random = torch.Generator().manual_seed(0)
    chosen, others = torch.randn(6, generator=random).double(), torch.randn(6, 4, generator=random).double()
    negatives = torch.tensor([[True, False, True, True]] * 3 + [[False, True, False, False]] * 3)
    found = s_dpo_loss(chosen, others, negatives, 0.7)
    total = ((0.7 * (others - chosen[:, None])).exp() * negatives).sum(1)
    torch.testing.assert_close(found, -torch.log(torch.sigmoid(-total.log())))
    torch.testing.assert_close(found[3:], dpo_loss(chosen[3:], others[3:, 1], 0.7))


def test_nothing_to_compare_with_costs_nothing_and_has_no_gradient() -> None:
    chosen, others = torch.zeros(2, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    negatives = torch.tensor([[False, False, False], [True, False, False]])
    loss = s_dpo_loss(chosen, others, negatives, 1.0)
    loss.sum().backward()
    assert loss[0] == 0 and chosen.grad is not None and others.grad is not None
    assert chosen.grad[0] == 0 and (others.grad[0] == 0).all()
    assert chosen.grad[1] == pytest.approx(-0.5) and others.grad[1].tolist() == pytest.approx([0.5, 0, 0])


def test_masked_logsumexp_is_exact_for_great_numbers() -> None:
    values = torch.tensor([[1000.0, 1000.0, 5000.0], [-1000.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_logsumexp(values, mask).tolist() == pytest.approx([1000 + math.log(2), -1000])


def test_an_unchanged_policy_follows_the_advantages() -> None:
    """Where the policy is still the old one, GRPO is the plain policy gradient."""
    log_probs = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages = group_advantages(torch.tensor([[1.0, 0.0, 2.0]]), mask)
    grpo_loss(log_probs, log_probs.detach(), advantages, mask, divergence_weight=0.5).sum().backward()
    assert log_probs.grad is not None
    torch.testing.assert_close(log_probs.grad, -advantages)


def test_grpo_against_a_plain_loop() -> None:
    random = torch.Generator().manual_seed(0)
    log_probs = -3 * torch.rand(10, 7, generator=random, dtype=torch.float64) - 5
    old = log_probs + 0.3 * torch.randn(10, 7, generator=random, dtype=torch.float64)
    rewards = torch.randint(0, 8, (10, 7), generator=random).double()
    mask = torch.rand(10, 7, generator=random) < 0.8
    advantages = group_advantages(rewards, mask)
    found = grpo_loss(log_probs, old, advantages, mask, clip=0.2, divergence_weight=0.04)
    for row in range(10):
        here = mask[row].nonzero()[:, 0]
        group = rewards[row, here]
        deviation = group.std(correction=0) if len(here) else torch.tensor(0.0)
        for k in range(7):
            if k not in here:
                assert found[row, k] == 0
                continue
            advantage = float((rewards[row, k] - group.mean()) / deviation) if deviation > 0 else 0.0
            p, q = float(log_probs[row, k]), float(old[row, k])
            ratio = math.exp(p - q)
            gain = min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
            divergence = math.exp(q - p) - (q - p) - 1
            assert float(found[row, k]) == pytest.approx(0.04 * divergence - gain, abs=1e-12)


def test_advantages_of_single_and_equal_rewards_are_zero() -> None:
    rewards = torch.tensor([[3.0, 5.0], [2.0, 2.0]])
    assert (group_advantages(rewards, torch.tensor([[True, False], [True, True]])) == 0).all()
