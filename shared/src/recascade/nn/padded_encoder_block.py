"""One pre-norm transformer block over short padded lists."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.multi_head import MultiHeadProjections
from recascade.nn.padded_attention import padded_attention


class PaddedEncoderBlock(nn.Module):
    """Every entry of a list sees the whole list, then the position-wise part, each around a residual connection.

    Without an encoding of places the block is equivariant: a permuted list gives permuted outputs.

    Args:
        dimension: width d of the stream.
        heads: attention heads; must divide ``dimension``.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on both parts' outputs.
    """

    def __init__(self, dimension: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(dimension)
        self.attention = MultiHeadProjections(dimension, heads)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def forward(self, entries: Tensor, mask: Tensor) -> Tensor:
        """``[B, n, d]`` to ``[B, n, d]``.

        Args:
            entries: finite everywhere, padding included.
            mask: bool ``[B, n]``, True for a real entry; padding is seen by none.
        """
        rate = self.dropout if self.training else 0.0
        normalised = self.norm(entries)
        keys, values = self.attention.keys_values(normalised)
        attended = padded_attention(self.attention.queries(normalised), keys, values, mask[:, None, None], dropout=rate)
        stream: Tensor = self.feed_forward(dropout_add(self.attention.join(attended), entries, rate))
        return stream
