"""Softmax over the entries that a mask leaves, in a form that has no NaN where it leaves none."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """``exp(v) / Σ exp(v)`` over the last dimension where ``mask`` holds; exactly 0 elsewhere.

    Args:
        values: float ``[..., n]``; what stands outside the mask changes nothing, infinities included.
        mask: bool, broadcasts with ``values``; a row without any entry gets zeros.
    """
    # The least finite number, not -inf: a row of -inf alone would be NaN, and so would its gradient.
    hidden = values.masked_fill(~mask, torch.finfo(values.dtype).min)
    return hidden.softmax(-1).masked_fill(~mask, 0.0)
