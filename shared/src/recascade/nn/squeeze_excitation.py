"""Light-SE: fields weighted by what all fields of the same row say (IntTower, Li et al., CIKM 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LightSqueezeExcitation(nn.Module):
    """``x + x · w`` for each field x, with ``w = softmax(W · means of the fields)``.

    The paper's fields have one width; here each has its own, as only their means enter the weights.

    Args:
        widths: of the F fields.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.excitation = nn.Linear(len(self.widths), len(self.widths))
        # [F, width]: the rows of the identity, each repeated over its field; divided by the widths it takes means.
        fields = torch.eye(len(self.widths)).repeat_interleave(torch.tensor(self.widths), dim=1)
        self.register_buffer("fields", fields, persistent=False)

    fields: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """``[n, width]`` fields side by side to ``[n, width]``, row by row."""
        means = inputs @ (self.fields / self.fields.sum(1, keepdim=True)).T
        weights = torch.softmax(self.excitation(means), 1)
        return inputs + inputs * (weights @ self.fields)
