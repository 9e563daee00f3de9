"""Keys and values of the codes that beams have written so far."""

from __future__ import annotations

import torch
from torch import Tensor


class BeamCache:
    """Of one attention layer, for B requests with n beams each.

    Attributes:
        keys: ``[B, n, t, H, D]`` after t codes, or None before the first.
        values: likewise.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
        """Let each beam continue its parent's codes by one, and return the keys and values of all its codes.

        Args:
            keys: ``[B, n, 1, H, D]`` of the newest code.
            values: likewise.
            parents: int64 ``[B, n]``, where each beam's prefix stood among the beams of the step before.
        """
        if self.keys is not None and self.values is not None:
            keys = torch.cat([_gather_beams(self.keys, parents), keys], dim=2)
            values = torch.cat([_gather_beams(self.values, parents), values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


def _gather_beams(tensor: Tensor, parents: Tensor) -> Tensor:
    batch, beams = tensor.shape[:2]
    rows = parents + torch.arange(batch, device=parents.device)[:, None] * beams
    return tensor.flatten(0, 1).index_select(0, rows.flatten()).view(*parents.shape, *tensor.shape[2:])
