"""Adam on the rows that a batch touches, for tables of identities with sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class RowAdam(torch.optim.Optimizer):
    """Lazy Adam: moments and weights of untouched rows stay as they are.

    The same steps as ``torch.optim.SparseAdam``, whose general treatment of sparse tensors costs twice as much at the
    size of a micro-batch. Both moments of a row decay only when it is touched; the bias correction counts all steps
    (Kingma and Ba, 2015; the laziness is PyTorch's).

    Args:
        parameters: matrices with sparse gradients, or groups of them.
        lr: step size.
        betas: decay of the first and the second moment.
        eps: added to the root of the second moment.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the rows that the gradients name."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        gradient = parameter.grad
        assert gradient is not None
        touched, values = gradient._indices()[0], gradient._values()
        rows, places = torch.unique(touched, return_inverse=True)
        total = values.new_zeros(len(rows), values.shape[1]).index_add_(0, places, values)
        first, second = group["betas"]
        mean = state["exp_avg"].index_select(0, rows).lerp_(total, 1 - first)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(second).addcmul_(total, total, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        correction = (1 - second ** state["step"]) ** 0.5
        size = group["lr"] * correction / (1 - first ** state["step"])
        parameter.index_add_(0, rows, mean.div_(square.sqrt_().add_(group["eps"])), alpha=-size)
