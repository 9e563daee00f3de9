"""Dropout that is cheap on a CPU.

PyTorch draws a CPU dropout mask with one Bernoulli sample per element, which costs as much as a matrix product with 300
multiplications per element. Here four elements share one 64-bit draw of the same generator, so that a rate is kept to
within 2^-17; the scale follows the rounded rate, so the expectation is exact. Other devices, and
compiled code, use PyTorch's own kernel.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 1 << 16


def dropout(values: Tensor, rate: float) -> Tensor:
    """Each element 0 with probability ``rate``, else divided by ``1 - rate``."""
    if rate == 0.0:
        return values
    if not _shares_draws(values):
        return functional.dropout(values, rate)
    return values * dropout_noise(values, rate)


def dropout_add(values: Tensor, residual: Tensor, rate: float) -> Tensor:
    """``residual + dropout(values, rate)`` in one pass; all tensors of one shape."""
    if rate == 0.0:
        return residual + values
    if not _shares_draws(values):
        return residual + functional.dropout(values, rate)
    return torch.addcmul(residual, values, dropout_noise(values, rate))


def relu_dropout(values: Tensor, rate: float) -> Tensor:
    """``dropout(relu(values), rate)``, saving only the result for the gradient."""
    if rate == 0.0 or not _shares_draws(values):
        return dropout(torch.relu(values), rate)
    return cast(Tensor, _ReluDropout.apply(values, rate))  # type: ignore[no-untyped-call]


def _shares_draws(values: Tensor) -> bool:
    """Compiled code has a generator of its own, which is not slow."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def dropout_noise(like: Tensor, rate: float) -> Tensor:
    """Independent factors of the shape and dtype of ``like``: 0 with probability ``rate``, else the constant that makes
    their mean 1."""
    dropped = round(rate * _LEVELS)
    draws = torch.empty((like.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    levels = draws.view(torch.int16)[: like.numel()].view(like.shape)
    noise = torch.empty(like.shape, dtype=like.dtype)
    torch.ge(levels, dropped - _LEVELS // 2, out=noise)
    return noise.mul_(_kept_scale(dropped))


def _kept_scale(dropped: int) -> float:
    return _LEVELS / (_LEVELS - dropped)


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        result = torch.relu(values).mul_(dropout_noise(values, rate))
        ctx.scale = _kept_scale(round(rate * _LEVELS))
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        # The result is positive exactly where the input was and the element was kept.
        gradient: Tensor = torch.ops.aten.threshold_backward(gradients[0], result, 0.0)
        return gradient.mul_(ctx.scale), None
