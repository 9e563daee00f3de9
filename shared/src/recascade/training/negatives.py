"""Random negative items for sampled losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.errors import ConfigurationError


class NegativeSampler(nn.Module):
    """Draws items with replacement, item i with probability proportional to ``popularity[i] ** exponent``.

    Its tensors move with the module but are not part of a checkpoint: they follow from the data.

    Args:
        popularity: float or int ``[I]``, training events of each item.
        exponent: 0 draws uniformly (items without events too), 1 in proportion to the events.
    """

    log_q: Tensor
    _cumulative: Tensor

    def __init__(self, popularity: Tensor, exponent: float = 0.0) -> None:
        super().__init__()
        weights = popularity.double() ** exponent
        if not torch.isfinite(weights).all() or weights.sum() <= 0:
            raise ConfigurationError(
                f"loss.popularity_exponent is {exponent}, which gives no distribution over the items. Use 0 or above."
            )
        self.items = len(weights)
        self.uniform = exponent == 0.0
        probabilities = weights / weights.sum()
        self.register_buffer("log_q", probabilities.log().float(), persistent=False)
        self.register_buffer("_cumulative", probabilities.cumsum(0), persistent=False)

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """int64 tensor of the given shape, from torch's default generator of the device."""
        device = self.log_q.device
        if self.uniform:
            return torch.randint(self.items, shape, device=device)
        points = torch.rand(shape, device=device, dtype=torch.float64) * self._cumulative[-1]
        # right=True: an item of probability 0 has an empty interval and is never drawn.
        return torch.searchsorted(self._cumulative, points, right=True).clamp_(max=self.items - 1)
