"""Where the LazyAR decoder first sees the code before."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """``Fuse(m, s) = W_f [m ⊙ (W_g s); s]``, without biases and without a squashing of the gate (GR4AD, §3.2).

    Args:
        dimension: width d.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dimension, dimension, bias=False)
        self.output = nn.Linear(2 * dimension, dimension, bias=False)

    def forward(self, trunk: Tensor, code: Tensor) -> Tensor:
        """Trunk states ``m`` and vectors ``s`` of the codes before, both ``[..., d]``, to ``[..., d]``."""
        return cast(Tensor, self.output(torch.cat([trunk * self.gate(code), code], dim=-1)))


class ResidualGatedFusion(nn.Module):
    """``Fuse(m, s) = W_f [m + m ⊙ (W_g s); s]``, which begins at ``m + s`` but for the gate's small product.

    Our choice. In the paper's form the trunk reaches the upper layers only in products with vectors of codes, which
    are small at first: the upper layers begin with next to nothing of what the trunk has read.

    Args:
        dimension: width d.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dimension, dimension, bias=False)
        self.output = nn.Linear(2 * dimension, dimension, bias=False)
        with torch.no_grad():
            self.output.weight.copy_(torch.eye(dimension).repeat(1, 2))

    def forward(self, trunk: Tensor, code: Tensor) -> Tensor:
        """As ``GatedFusion.forward``."""
        return cast(Tensor, self.output(torch.cat([torch.addcmul(trunk, trunk, self.gate(code)), code], dim=-1)))


class AdditiveFusion(nn.Module):
    """``Fuse(m, s) = m + s``: with no layer below it, the input of a plain autoregressive decoder."""

    def forward(self, trunk: Tensor, code: Tensor) -> Tensor:
        """As ``GatedFusion.forward``."""
        return trunk + code


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "residual": ResidualGatedFusion,
    "gated": GatedFusion,
    "add": lambda _: AdditiveFusion(),
}
"""By the value of ``model.fusion``, made for a width d."""
