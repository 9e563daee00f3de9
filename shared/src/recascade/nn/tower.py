"""Perceptrons from layers that a caller may replace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from torch import nn


class LayerFactory(Protocol):
    """Makes the layers of a tower, so that another kind of layer plugs in without an edit to the tower."""

    def __call__(self, inputs: int, outputs: int, *, activation: bool, first: bool) -> nn.Module:
        """A module from ``[n, inputs]`` to ``[n, outputs]``, row by row.

        Args:
            inputs: width of what it reads.
            outputs: width of what it gives.
            activation: end with the activation; False for a tower's last layer.
            first: the layer reads the tower's raw input, usually its widest.
        """
        ...


def plain_layer(inputs: int, outputs: int, *, activation: bool, first: bool) -> nn.Module:
    """A linear layer, with ReLU where an activation is wanted."""
    linear = nn.Linear(inputs, outputs)
    return nn.Sequential(linear, nn.ReLU()) if activation else linear


def tower(widths: Sequence[int], layer: LayerFactory = plain_layer, dropout: float = 0.0) -> nn.Sequential:
    """A perceptron without activation after its last layer.

    Args:
        widths: of the input, the hidden layers and the output; at least two numbers.
        layer: makes the layers.
        dropout: rate after each hidden layer.
    """
    last = len(widths) - 2
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(layer(inputs, outputs, activation=number < last, first=number == 0))
        if dropout and number < last:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
