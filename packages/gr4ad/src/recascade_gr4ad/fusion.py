"""Where the LazyAR decoder first sees the code before."""

from __future__ import annotations

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


class AdditiveFusion(nn.Module):
    """``Fuse(m, s) = m + s``: with no layer below it, the input of a plain autoregressive decoder."""

    def forward(self, trunk: Tensor, code: Tensor) -> Tensor:
        """As ``GatedFusion.forward``."""
        return trunk + code
