"""Places in a list, as each user weighs them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recascade_psad.joined_linear import JoinedLinear


class PersonalGate(nn.Module):
    """``2 σ(W₂ relu(W₁ [a ‖ b ‖ …] + b₁) + b₂)``, in (0, 2): a factor per coordinate, as in LHUC and PPNet (inferred).

    W₂ and b₂ begin as zeros, so that the gate begins as the identity.

    Args:
        widths: of what it reads.
        dimension: d, of the inner layer and of the factors.
    """

    def __init__(self, widths: Sequence[int], dimension: int) -> None:
        super().__init__()
        self.inner = JoinedLinear(widths, dimension)
        self.outer = nn.Linear(dimension, dimension)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, *parts: Tensor) -> Tensor:
        """``[..., d]``, of parts ``[..., width]`` that broadcast."""
        return 2.0 * torch.sigmoid(self.outer(torch.relu(self.inner(*parts))))


class PositionEncoding(nn.Module):
    """A learned vector per place; adaptive, its coordinates are weighed by the user's intent (inferred)::

        p̃_j(u) = p_j ⊙ 2 σ(V₂ relu(V₁ [p_j ‖ u]))

    Args:
        places: rows of the table; places behind share the last row.
        dimension: d.
        adaptive: off gives p_j to everybody.
    """

    def __init__(self, places: int, dimension: int, *, adaptive: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(places, dimension)
        nn.init.normal_(self.table.weight, std=dimension**-0.5)
        self.gate = PersonalGate((dimension, dimension), dimension) if adaptive else None

    def forward(self, intent: Tensor, places: Tensor) -> Tensor:
        """``[B, p, d]``.

        Args:
            intent: ``[B, d]``.
            places: int64 ``[p]``, from 0.
        """
        plain: Tensor = self.table(places.clamp(max=self.table.num_embeddings - 1))
        if self.gate is None:
            return plain.expand(intent.shape[0], -1, -1)
        weighed: Tensor = plain * self.gate(plain[None], intent[:, None])
        return weighed
