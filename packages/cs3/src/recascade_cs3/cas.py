"""Cycle-Adaptive Structure (CAS): a layer that weighs its input by its own output, and runs again.

Reported in public readings of the paper; none of it is in the abstract. It stands in place of a fully connected layer
with weight W [m, n] and bias b [m] for inputs x [.., n]:

    z  = φ(W x + b)              pre-forward
    e  = σ(G z + g)              adaptive reweighting, G [n, m]
    x~ = x ⊙ 2e                  scales in (0, 2), about 1 on average
    y  = φ(W x~ + b)             cycle-forward, with the same W, b and φ

A layer costs 3mn multiplications instead of mn, and 2mn + m + n parameters instead of mn + m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from recascade.nn.tower import LayerFactory, plain_layer
from recascade_cs3.config import CycleAdaptiveConfig

if TYPE_CHECKING:
    from typing import Literal


class CycleAdaptiveLayer(nn.Module):
    """One fully connected layer with its cycle.

    Args:
        inputs: n.
        outputs: m.
        activation: φ is ReLU; otherwise the identity, as in a tower's last layer.
        cycles: how often the input is weighed and the layer run again; the scales always apply to the original x,
            so that they do not compound (our choice; 1 is the reported number).
        post_activation: the gate reads φ(W x + b), our reading; otherwise W x + b.
        stop_gradient: no gradient flows from the gate into z.
        zero_gate: G and g begin as zeros, so that every scale begins as 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        activation: bool,
        cycles: int = 1,
        post_activation: bool = True,
        stop_gradient: bool = False,
        zero_gate: bool = True,
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.gate = nn.Linear(outputs, inputs)
        self.activation = activation
        self.cycles = cycles
        self.post_activation = post_activation
        self.stop_gradient = stop_gradient
        if zero_gate:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[.., n]`` → ``[.., m]``."""
        outputs = self.layer(inputs)
        for _ in range(self.cycles):
            outputs = linear(inputs * self.scales(outputs), self.layer.weight, self.layer.bias)
        return relu(outputs) if self.activation else outputs

    def scales(self, outputs: Tensor) -> Tensor:
        """The factors 2e in (0, 2), ``[.., n]``, from the layer's outputs before φ, ``[.., m]``."""
        if self.activation and self.post_activation:
            outputs = relu(outputs)
        if self.stop_gradient:
            outputs = outputs.detach()
        return torch.sigmoid(self.gate(outputs)) * 2


def layer_factory(config: CycleAdaptiveConfig, tower: Literal["user", "item"]) -> LayerFactory:
    """What a backbone builds the layers of one tower with: cycle-adaptive ones where the configuration wants them."""
    if not config.enabled or not (config.user if tower == "user" else config.item):
        return plain_layer

    def build(inputs: int, outputs: int, *, activation: bool, first: bool) -> nn.Module:
        if first and not config.input_layer:
            return plain_layer(inputs, outputs, activation=activation, first=first)
        return CycleAdaptiveLayer(
            inputs,
            outputs,
            activation=activation,
            cycles=config.cycles,
            post_activation=config.post_activation,
            stop_gradient=config.stop_gradient,
            zero_gate=config.zero_gate,
        )

    return build
