"""The k largest of each row, with a rule for ties: of equal values the earlier one wins, on every device."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW_BITS = 0xFFFFFFFF


def stable_top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``min(k, N)`` largest values of each row, largest first, and their places.

    Args:
        values: float ``[..., N]``, N below 2^32, no NaN.
        k: how many.

    Returns:
        Values of the same dtype and places int64, both ``[..., min(k, N)]``.
    """
    k = min(k, values.shape[-1])
    if values.dtype != torch.float32:
        ordered, places = torch.sort(values, dim=-1, descending=True, stable=True)
        return ordered[..., :k], places[..., :k]
    # One integer orders by value, then by place: the upper half holds the float's bits turned so that integers sort
    # alike, the lower half the place counted down. Adding zero makes -0.0 and 0.0 equal.
    bits = (values + 0.0).view(torch.int32)
    turned = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    places = torch.arange(values.shape[-1], device=values.device)
    keys = ((turned.to(torch.int64) << 32) + (_LOW_BITS - places)).topk(k, dim=-1).values
    places = _LOW_BITS - (keys & _LOW_BITS)
    return values.gather(-1, places), places
