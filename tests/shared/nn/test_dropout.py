from __future__ import annotations

import pytest
import torch

from recascade.nn.dropout import dropout, dropout_add, relu_dropout


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_rate_and_expectation(rate: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(400_001)
    dropped = dropout(values, rate)
    share = float((dropped == 0).float().mean())
    assert abs(share - rate) < 5 * (rate * (1 - rate) / len(values)) ** 0.5
    assert dropped.unique().numel() == 2
    assert float(dropped.max()) == pytest.approx(1 / (1 - rate), rel=2e-4)


def test_neighbours_that_share_a_draw_are_independent() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(400_000), 0.3) > 0).float().view(-1, 4)
    correlation = torch.corrcoef(kept.t()) - torch.eye(4)
    assert float(correlation.abs().max()) < 0.02


def test_same_seed_same_draw() -> None:
    torch.manual_seed(3)
    first = dropout(torch.ones(1001), 0.4)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(torch.ones(1001), 0.4))
    assert not torch.equal(first, dropout(torch.ones(1001), 0.4))


def test_rate_zero_is_the_identity() -> None:
    values, residual = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(dropout(values, 0.0), values)
    assert torch.equal(dropout_add(values, residual, 0.0), values + residual)
    assert torch.equal(relu_dropout(values, 0.0), values.relu())


def test_sum_with_a_residual_uses_the_same_draw_as_dropout() -> None:
    values, residual = torch.randn(7, 9), torch.randn(7, 9)
    torch.manual_seed(1)
    expected = residual + dropout(values, 0.3)
    torch.manual_seed(1)
    torch.testing.assert_close(dropout_add(values, residual, 0.3), expected)


def test_gradients() -> None:
    values = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)

    def draw(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)
        return relu_dropout(values, 0.3) + dropout(values, 0.3)

    assert torch.autograd.gradcheck(draw, (values,))
