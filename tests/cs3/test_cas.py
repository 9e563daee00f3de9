from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.utils.flop_counter import FlopCounterMode

from recascade_cs3.cas import CycleAdaptiveLayer, layer_factory
from recascade_cs3.config import CycleAdaptiveConfig

sizes = st.integers(1, 12)


@given(sizes, sizes, st.integers(1, 3), st.booleans(), st.booleans())
def test_a_gate_of_zeros_gives_the_plain_layer_exactly(
    inputs: int, outputs: int, cycles: int, activation: bool, post: bool
) -> None:
    layer = CycleAdaptiveLayer(inputs, outputs, activation=activation, cycles=cycles, post_activation=post)
    plain = layer.layer if not activation else nn.Sequential(layer.layer, nn.ReLU())
    values = torch.randn(5, inputs)
    assert torch.equal(layer(values), plain(values))


def test_a_random_gate_differs_from_the_plain_layer() -> None:
    torch.manual_seed(0)
    layer = CycleAdaptiveLayer(6, 4, activation=True, zero_gate=False)
    values = torch.randn(5, 6)
    assert not torch.allclose(layer(values), torch.relu(layer.layer(values)))


def test_scales_lie_between_0_and_2_around_1() -> None:
    torch.manual_seed(0)
    layer = CycleAdaptiveLayer(64, 32, activation=True, zero_gate=False)
    scales = layer.scales(layer.layer(torch.randn(500, 64))).detach()
    assert scales.shape == (500, 64)
    assert float(scales.min()) > 0
    assert float(scales.max()) < 2
    assert abs(float(scales.mean()) - 1) < 0.05


def test_the_equations_hold_step_by_step() -> None:
    torch.manual_seed(0)
    layer = CycleAdaptiveLayer(6, 4, activation=True, zero_gate=False)
    x = torch.randn(3, 6)
    w, b, big_g, g = layer.layer.weight, layer.layer.bias, layer.gate.weight, layer.gate.bias
    z = torch.relu(x @ w.T + b)
    e = torch.sigmoid(z @ big_g.T + g)
    assert torch.allclose(layer(x), torch.relu((x * 2 * e) @ w.T + b), atol=1e-6)


def test_further_cycles_weigh_the_original_input() -> None:
    torch.manual_seed(0)
    layer = CycleAdaptiveLayer(6, 4, activation=False, cycles=2, zero_gate=False)
    x = torch.randn(3, 6)
    first = layer.layer(x * layer.scales(layer.layer(x)))
    assert torch.allclose(layer(x), layer.layer(x * layer.scales(first)), atol=1e-6)


@pytest.mark.parametrize("activation", [True, False])
def test_analytic_gradients_equal_numeric_ones(activation: bool) -> None:
    torch.manual_seed(1)
    layer = CycleAdaptiveLayer(4, 3, activation=activation, zero_gate=False).double()
    parameters = [parameter.detach().requires_grad_() for parameter in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def run(values: torch.Tensor, *new: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, new, strict=True)), (values,))  # type: ignore[no-any-return]

    assert gradcheck(run, (torch.randn(2, 4, dtype=torch.float64, requires_grad=True), *parameters))


def test_stop_gradient_keeps_the_gate_out_of_the_first_run() -> None:
    torch.manual_seed(0)
    gradients = []
    for stop in (False, True):
        torch.manual_seed(0)
        layer = CycleAdaptiveLayer(4, 3, activation=False, stop_gradient=stop, zero_gate=False)
        layer(torch.ones(2, 4)).sum().backward()
        assert layer.gate.weight.grad is not None
        gradients.append(layer.layer.weight.grad)
    assert not torch.allclose(gradients[0], gradients[1])


@given(sizes, sizes)
def test_costs_are_those_of_the_specification(inputs: int, outputs: int) -> None:
    n, m = inputs, outputs
    layer = CycleAdaptiveLayer(n, m, activation=True)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 2 * n * m + m + n
    with FlopCounterMode(display=False) as counter:
        layer(torch.ones(1, n))
    assert counter.get_total_flops() == 2 * 3 * n * m  # two operations per multiplication-addition


def test_the_factory_obeys_tower_and_input_layer() -> None:
    def kinds(tower: str, **settings: bool) -> list[type]:
        factory = layer_factory(CycleAdaptiveConfig(**settings), tower)  # type: ignore[arg-type]
        return [type(factory(4, 4, activation=False, first=first)) for first in (True, False)]

    adaptive, plain = CycleAdaptiveLayer, nn.Linear
    assert kinds("user") == kinds("item") == [adaptive, adaptive]
    assert kinds("user", enabled=False) == [plain, plain]
    assert kinds("item", item=False) == [plain, plain]
    assert kinds("user", item=False, input_layer=False) == [plain, adaptive]
