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
    return torch.softmax(_hidden(values, mask), -1).masked_fill(~mask, 0.0)


def masked_log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """The logarithm of ``masked_softmax``; 0 outside the mask, so that a product with a probability of 0 is 0."""
    return torch.log_softmax(_hidden(values, mask), -1).masked_fill(~mask, 0.0)


def _hidden(values: Tensor, mask: Tensor) -> Tensor:
    # The least finite number, not -inf: a row of -inf alone would be NaN, and so would its gradient.
    return values.masked_fill(~mask, torch.finfo(values.dtype).min)
