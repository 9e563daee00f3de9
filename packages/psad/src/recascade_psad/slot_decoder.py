"""One pre-norm transformer block over the slots of a list, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.list_encoder import masked_attention
from recascade.nn.multi_head import MultiHeadProjections

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pool:
    """The candidates as one decoder block attends to them.

    Attributes:
        keys: ``[B, n, H, D]``.
        values: ``[B, n, H, D]``.
        mask: bool ``[B, n]``.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class SlotDecoderBlock(nn.Module):
    """Self-attention over slots, attention to the candidates, then the position-wise part, each around a residual
    connection (Vaswani et al. 2017).

    Args:
        dimension: width d of the stream.
        heads: attention heads; must divide ``dimension``.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on all parts' outputs.
    """

    def __init__(self, dimension: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_norm = nn.LayerNorm(dimension)
        self.self_attention = MultiHeadProjections(dimension, heads)
        self.pool_norm = nn.LayerNorm(dimension)
        self.pool_attention = MultiHeadProjections(dimension, heads)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def pool(self, candidates: Tensor, mask: Tensor) -> Pool:
        """This block's keys and values of the encoded candidates ``[B, n, d]``."""
        return Pool(*self.pool_attention.keys_values(candidates), mask)

    def forward(
        self, slots: Tensor, visible: Tensor, pool: Pool, earlier: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """``[B, q, d]`` to ``[B, q, d]``, and the keys and values of all slots so far.

        Args:
            slots: the newest q of s slots.
            visible: bool ``[B, q, s]``, which slots each of the newest sees.
            pool: of this block.
            earlier: keys and values of the s - q slots before, ``[B, s - q, H, D]`` each; None where q = s.
        """
        rate = self.dropout if self.training else 0.0
        normalised = self.self_norm(slots)
        keys, values = self.self_attention.keys_values(normalised)
        if earlier is not None:
            keys, values = torch.cat([earlier[0], keys], 1), torch.cat([earlier[1], values], 1)
        attended = masked_attention(self.self_attention.queries(normalised), keys, values, visible, dropout=rate)
        stream = dropout_add(self.self_attention.join(attended), slots, rate)
        query = self.pool_attention.queries(self.pool_norm(stream))
        attended = masked_attention(query, pool.keys, pool.values, pool.mask, dropout=rate)
        stream = dropout_add(self.pool_attention.join(attended), stream, rate)
        return self.feed_forward(stream), (keys, values)
