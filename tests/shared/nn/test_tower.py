from __future__ import annotations

import torch
from torch import nn

from recascade.nn.tower import plain_layer, tower


def test_a_tower_is_its_layers_with_no_activation_at_the_end() -> None:
    made = []

    def layer(inputs: int, outputs: int, *, activation: bool, first: bool) -> nn.Module:
        made.append((inputs, outputs, activation, first))
        return plain_layer(inputs, outputs, activation=activation, first=first)

    torch.manual_seed(0)
    perceptron = tower((4, 8, 6, 2), layer)
    assert made == [(4, 8, True, True), (8, 6, True, False), (6, 2, False, False)]
    linears = [module for module in perceptron.modules() if isinstance(module, nn.Linear)]
    inputs = torch.randn(5, 4)
    expected = linears[2](torch.relu(linears[1](torch.relu(linears[0](inputs)))))
    torch.testing.assert_close(perceptron(inputs), expected)
    assert (expected < 0).any()


def test_dropout_stands_after_hidden_layers_only() -> None:
    kinds = [type(module) for module in tower((4, 8, 2), dropout=0.5)]
    assert kinds == [nn.Sequential, nn.Dropout, nn.Linear]
    assert [type(module) for module in tower((4, 2), dropout=0.5)] == [nn.Linear]
