"""Where the LazyAR decoder first sees the code before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """``Fuse(m, s) = W_f [m ⊙ (W_g s); s]``, without biases and without a squashing of the gate (GR4AD, §3.2).

    With ``residual``, our choice, ``W_f [m + m ⊙ (W_g s); s]``, which begins at ``m + s`` but for the gate's small
    product. In the paper's form the trunk reaches the upper layers only in products with vectors of codes, which are
    small at first: the upper layers begin with next to nothing of what the trunk has read.

    Args:
        dimension: width d.
        residual: whether a path leads the trunk past the gate.
    """

    def __init__(self, dimension: int, *, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.gate = nn.Linear(dimension, dimension, bias=False)
        self.output = nn.Linear(2 * dimension, dimension, bias=False)
        if residual:
            with torch.no_grad():
                self.output.weight.copy_(torch.eye(dimension).repeat(1, 2))

    def forward(self, trunk: Tensor, code: Tensor) -> Tensor:
        """Trunk states ``m`` and vectors ``s`` of the codes before, both ``[..., d]``, to ``[..., d]``."""
        gate = self.gate(code)
        gated = torch.addcmul(trunk, trunk, gate) if self.residual else trunk * gate
        return cast(Tensor, self.output(torch.cat([gated, code], dim=-1)))


class AdditiveFusion(nn.Module):
    """``Fuse(m, s) = m + s``: with no layer below it, the input of a plain autoregressive decoder."""

    def forward(self, trunk: Tensor, code: Tensor) -> Tensor:
        """As ``GatedFusion.forward``."""
        return trunk + code


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "residual": partial(GatedFusion, residual=True),
    "gated": GatedFusion,
    "add": lambda _: AdditiveFusion(),
}
"""By the value of ``model.fusion``, made for a width d."""
