"""A linear map of several vectors side by side that multiplies what many rows share only once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class JoinedLinear(nn.Linear):
    """``W [a ‖ b ‖ …] + bias`` as ``W_a a + W_b b + … + bias``: a part that is the same for all candidates of a list
    costs one row, not one per candidate.

    Args:
        widths: of the parts.
        outputs: width of the result.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__(sum(widths), outputs)
        self.widths = list(widths)

    def forward(self, *parts: Tensor) -> Tensor:
        """``[..., outputs]``, the shape to which the parts ``[..., width]`` broadcast."""
        matrices = torch.split(self.weight, self.widths, dim=1)
        first, *others = zip(parts, matrices, strict=True)
        result = nn.functional.linear(*first, self.bias)
        for part, matrix in others:
            result = result + nn.functional.linear(part, matrix)
        return result
