from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from recascade.nn.tower import tower
from recascade.serving.numpy_tower import NumpyTower


class Cosine(nn.Module):
    """All that a tower may end with, and a bias that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 5, bias=False)
        self.gate = nn.Parameter(torch.randn(5))

    def forward(self, inputs: Tensor) -> Tensor:
        return normalize(torch.sigmoid(relu(self.layer(inputs)) * self.gate), dim=1)


class Moody(nn.Module):
    """Decides by the values of its input, which no graph would."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) if float(inputs[0, 0]) < 0 else -self.layer(inputs)


class Unknown(nn.Module):
    """Has an operator that is not translated."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.erf(inputs) * 2


class AlongRows(nn.Module):
    """Means something else by its operator than the translation: the results differ."""

    def forward(self, inputs: Tensor) -> Tensor:
        return normalize(inputs, dim=0)


@pytest.mark.parametrize("plain", [tower((7, 16, 8, 3), dropout=0.5), Cosine(), nn.Sequential(nn.Sigmoid())])
@pytest.mark.parametrize("requests", [0, 1, 2, 5])
def test_the_same_function_for_any_number_of_requests(plain: nn.Module, requests: int) -> None:
    answering, inputs = NumpyTower(plain, 7), torch.randn(requests, 7)
    assert answering.rewritten
    with torch.inference_mode():
        inputs = 50 * inputs
        torch.testing.assert_close(answering(inputs), plain.eval()(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("requests", [1, 2])
def test_later_training_does_not_reach_it(requests: int) -> None:
    plain = tower((4, 3), dropout=0.5).train()
    answering, inputs = NumpyTower(plain, 4), torch.randn(requests, 4)
    before = answering(inputs).clone()
    assert plain.training
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 7.0)
    assert torch.equal(answering(inputs), before)


@pytest.mark.parametrize("module", [Moody(), Unknown(), AlongRows()], ids=lambda module: type(module).__name__)
def test_what_cannot_be_rewritten_goes_through_pytorch(module: nn.Module) -> None:
    answering = NumpyTower(module, 7)
    assert not answering.rewritten
    for inputs in torch.randn(6, 1, 7):
        assert torch.equal(answering(inputs), module(inputs))


def test_many_threads_may_ask() -> None:
    plain = tower((7, 16, 3))
    answering, inputs = NumpyTower(plain, 7), torch.randn(200, 1, 7)

    def ask(request: Tensor) -> Tensor:
        with torch.inference_mode():
            return answering(request)

    with ThreadPoolExecutor(4) as pool:
        found = torch.cat(list(pool.map(ask, inputs)))
    torch.testing.assert_close(found, plain(inputs[:, 0]).detach(), rtol=0, atol=1e-6)
