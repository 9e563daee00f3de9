"""One pre-norm transformer block over packed sequences, seeing both ways or only back."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.attention import causal_attention
from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.full_attention import full_attention
from recascade.nn.multi_head import MultiHeadProjections
from recascade.nn.packed import PackedLayout


class EncoderBlock(nn.Module):
    """Self-attention, then the position-wise part, each around a residual connection.

    Args:
        dimension: width d of the stream.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on both parts' outputs.
        causal: each event sees itself and earlier ones only.
    """

    def __init__(
        self, dimension: int, heads: int, head_width: int | None, hidden: int, dropout: float, *, causal: bool
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.causal = causal
        self.norm = nn.LayerNorm(dimension)
        self.attention = MultiHeadProjections(dimension, heads, head_width)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def forward(self, events: Tensor, layout: PackedLayout) -> Tensor:
        """``[T, d]`` packed events to ``[T, d]``."""
        rate = self.dropout if self.training else 0.0
        normalised = self.norm(events)
        keys, values = self.attention.keys_values(normalised)
        attend = causal_attention if self.causal else full_attention
        attended = attend(self.attention.queries(normalised), keys, values, layout, dropout=rate)
        stream: Tensor = self.feed_forward(dropout_add(self.attention.join(attended), events, rate))
        return stream
