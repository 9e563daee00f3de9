from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from recascade.nn.tower import tower
from recascade.serving.frozen_tower import FrozenTower


class Moody(nn.Module):
    """Decides by the values of its input, which a recorded graph would not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) if float(inputs[0, 0]) < 0 else -self.layer(inputs)


class Unrecordable(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("not in a graph")
        return inputs * 2


@pytest.mark.parametrize("requests", [0, 1, 2, 5])
def test_the_same_function_for_any_number_of_requests(requests: int) -> None:
    plain = tower((7, 16, 8, 3), dropout=0.5)
    frozen, inputs = FrozenTower(plain, 7), torch.randn(requests, 7)
    assert frozen.recorded
    with torch.inference_mode():
        torch.testing.assert_close(frozen(inputs), plain.eval()(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("requests", [1, 2])
def test_later_training_does_not_reach_it(requests: int) -> None:
    plain = tower((4, 3), dropout=0.5).train()
    frozen, inputs = FrozenTower(plain, 4), torch.randn(requests, 4)
    before = frozen(inputs).clone()
    assert plain.training
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 7.0)
    assert torch.equal(frozen(inputs), before)


@pytest.mark.parametrize("module", [Moody(), Unrecordable()], ids=["values decide", "cannot be traced"])
def test_what_a_graph_cannot_hold_answers_layer_by_layer(module: nn.Module) -> None:
    frozen = FrozenTower(module, 4)
    assert not frozen.recorded
    for inputs in torch.randn(6, 1, 4):
        assert torch.equal(frozen(inputs), module(inputs))


def test_many_threads_may_ask() -> None:
    plain = tower((7, 16, 3))
    frozen, inputs = FrozenTower(plain, 7), torch.randn(200, 1, 7)

    def ask(request: Tensor) -> Tensor:
        with torch.inference_mode():
            return frozen(request)

    with ThreadPoolExecutor(4) as pool:
        found = torch.cat(list(pool.map(ask, inputs)))
    torch.testing.assert_close(found, plain(inputs[:, 0]).detach(), rtol=0, atol=1e-6)
