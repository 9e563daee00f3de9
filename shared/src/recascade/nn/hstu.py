"""The HSTU layer: pointwise attention with position and time biases, gated (Zhai et al., ICML 2024, arXiv 2402.17152).

Equations 1 to 3 of the paper, with SiLU for both nonlinearities as it says, and from the released code: the norm before
the first projection, the residual, the division by a length, no biases in the first projection, one bias table for all
heads.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from recascade.errors import ConfigurationError
from recascade.nn.dropout import dropout
from recascade.nn.packed import PackedLayout
from recascade.nn.pointwise_attention import pointwise_attention

Normaliser = Literal["max_length", "visible"]

_NORM_EPSILON = 1e-6


class HSTULayer(nn.Module):
    """``X + f2(Norm(A(X) V(X)) ⊙ U(X))`` with ``A = SiLU(Q K^T + bias) / n`` under the causal rule.

    Args:
        dimension: width d of the stream.
        heads: attention heads.
        dropout: rate on the gated output before f2.
        max_length: the most events of a sequence.
        attention_dimension: width of queries and keys per head; None for ``dimension / heads``.
        value_dimension: width of values and gates per head; None for ``dimension / heads``.
        position_bias: learn a bias for each distance in positions.
        time_buckets: learn a bias for each of this many logarithmic buckets of time differences, the last for all
            longer ones; 0 for none. The release has 128.
        normaliser: n above: ``max_length`` as the release, or the number of ``visible`` events (our alternative).
    """

    def __init__(
        self,
        dimension: int,
        heads: int,
        dropout: float,
        max_length: int,
        *,
        attention_dimension: int | None = None,
        value_dimension: int | None = None,
        position_bias: bool = True,
        time_buckets: int = 128,
        normaliser: Normaliser = "max_length",
    ) -> None:
        super().__init__()
        if dimension % heads:
            raise ConfigurationError(f"heads={heads} does not divide dimension={dimension}; choose a divisor.")
        self.heads = heads
        self.dropout = dropout
        self.max_length = max_length
        self.normaliser = normaliser
        self.attention_dimension = attention_dimension or dimension // heads
        self.value_dimension = value_dimension or dimension // heads
        self.norm = nn.LayerNorm(dimension, eps=_NORM_EPSILON)
        widths = 2 * (self.attention_dimension + self.value_dimension) * heads
        self.project = nn.Linear(dimension, widths, bias=False)
        self.output = nn.Linear(self.value_dimension * heads, dimension)
        self.position_bias = nn.Parameter(torch.empty(max_length)) if position_bias else None
        self.time_bias = nn.Parameter(torch.empty(time_buckets)) if time_buckets else None
        for table in (self.project.weight, self.position_bias, self.time_bias):
            if table is not None:
                nn.init.normal_(table, std=0.02)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, events: Tensor, layout: PackedLayout, buckets: list[Tensor] | None) -> Tensor:
        """``[T, d]`` packed events to ``[T, d]``; ``buckets`` from ``time_buckets`` where the layer has a time bias."""
        value_width = self.value_dimension * self.heads
        attention_width = self.attention_dimension * self.heads
        projected = silu(self.project(self.norm(events)))
        widths = [value_width, value_width, attention_width, attention_width]
        gate, value, query, key = torch.split(projected, widths, dim=1)
        query, key, value = (
            tensor.reshape(len(events), self.heads, tensor.shape[1] // self.heads) for tensor in (query, key, value)
        )
        attended = pointwise_attention(
            query, key, value, layout, position_bias=self.position_bias, time_bias=self.time_bias, buckets=buckets
        ).flatten(1)
        if self.normaliser == "max_length":
            attended = attended / self.max_length
        else:
            attended = attended / (layout.positions + 1)[:, None]
        gated = gate * layer_norm(attended, attended.shape[1:], eps=_NORM_EPSILON)
        return events + cast(Tensor, self.output(dropout(gated, self.dropout if self.training else 0.0)))
