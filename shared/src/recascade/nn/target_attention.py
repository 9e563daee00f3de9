"""Attention of a candidate over the events of a history, by an activation unit (Zhou et al., KDD 2018)."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from recascade.nn.packed_pooling import packed_softmax, packed_sum

AttentionWeights = Literal["plain", "softmax"]


class TargetAttention(nn.Module):
    """The weighted sum of a history's events, each weighted by a small perceptron that sees it beside the candidate.

    The perceptron reads event e, candidate c and their product, ``hidden = relu(A e + B c + C (e ⊙ c) + b)``. The
    difference that the authors' release reads as well adds nothing to these (it is linear in both), and the ReLU
    instead of its sigmoid is our choice.

    Args:
        dimension: width d of events and candidates.
        hidden: width of the perceptron's hidden layer.
        weights: ``plain`` as in the paper, so that the sum tells how strong an interest is, or a ``softmax``.
    """

    def __init__(self, dimension: int, hidden: int, weights: AttentionWeights = "plain") -> None:
        super().__init__()
        self.weights = weights
        self.candidate = nn.Linear(dimension, hidden)
        self.event = nn.Linear(dimension, hidden, bias=False)
        self.product = nn.Linear(dimension, hidden, bias=False)
        self.output = nn.Linear(hidden, 1)

    def forward(self, events: Tensor, offsets: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
        """``[B, k, d]``, what each candidate finds in its request's history; 0 for an empty one.

        Args:
            events: ``[T, d]``, packed.
            offsets: int64 ``[B + 1]``, of the T events.
            rows: int64 ``[T]``, the request of each event.
            candidates: ``[B, k, d]``.
        """
        beside = candidates.index_select(0, rows)
        hidden = self.candidate(candidates).index_select(0, rows)
        hidden = hidden + self.event(events)[:, None] + self.product(beside * events[:, None])
        weights = cast(Tensor, self.output(torch.relu(hidden)))[..., 0]
        if self.weights == "softmax":
            weights = packed_softmax(weights, offsets, rows)
        weighted = weights[..., None] * events[:, None]
        return packed_sum(weighted.flatten(1), offsets).view_as(candidates)
