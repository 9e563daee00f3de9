"""Attention over short padded lists: candidates of a request, events of a history."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.multi_head import MultiHeadProjections


def masked_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1) to the entries that a mask leaves visible.

    A query that sees nothing gets 0, where a plain softmax would divide by 0.

    Args:
        query: ``[B, m, H, D]``.
        key: ``[B, n, H, D]``.
        value: ``[B, n, H, D]``.
        visible: bool ``[B, n]`` for all queries of a row alike, or ``[B, m, n]``.
        dropout: share of attention weights set to 0; pass 0 outside training.

    Returns:
        ``[B, m, H, D]``.
    """
    visible = visible[:, None] if visible.dim() == 2 else visible
    sees = visible.any(-1, keepdim=True)
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    attended = scaled_dot_product_attention(q, k, v, attn_mask=(visible | ~sees)[:, None], dropout_p=dropout)
    return attended.transpose(1, 2) * sees[..., None]


class ListBlock(nn.Module):
    """One pre-norm transformer block: self-attention within each list, then the position-wise part.

    Args:
        dimension: width d of the stream.
        heads: attention heads; must divide d.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on both parts' outputs.
    """

    def __init__(self, dimension: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(dimension)
        self.attention = MultiHeadProjections(dimension, heads)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def forward(self, entries: Tensor, visible: Tensor) -> Tensor:
        """``[B, n, d]`` to ``[B, n, d]``; what stands in hidden places changes nothing elsewhere.

        Args:
            entries: ``[B, n, d]``, finite also where hidden.
            visible: bool ``[B, n]`` or ``[B, n, n]`` (query, key).
        """
        rate = self.dropout if self.training else 0.0
        normalised = self.norm(entries)
        keys, values = self.attention.keys_values(normalised)
        attended = masked_attention(self.attention.queries(normalised), keys, values, visible, dropout=rate)
        stream: Tensor = self.feed_forward(dropout_add(self.attention.join(attended), entries, rate))
        return stream


class ListEncoder(nn.Module):
    """Blocks one after the other, and a last norm.

    Args:
        blocks: their number; with 0 this is the norm alone.
        dimension: width d.
        heads: attention heads.
        hidden: inner width of the position-wise parts; None for 2 d.
        dropout: rate inside the blocks.
    """

    def __init__(
        self, blocks: int, dimension: int, heads: int, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ListBlock(dimension, heads, hidden or 2 * dimension, dropout) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(dimension)

    def forward(self, entries: Tensor, visible: Tensor) -> Tensor:
        """``[B, n, d]`` to ``[B, n, d]``; see ``ListBlock``."""
        for block in self.blocks:
            entries = block(entries, visible)
        normalised: Tensor = self.norm(entries)
        return normalised


def masked_mean(entries: Tensor, mask: Tensor) -> Tensor:
    """``[B, d]``: mean of the entries ``[B, n, d]`` that the mask (bool ``[B, n]``) leaves; 0 where it leaves none."""
    kept = entries * mask[..., None]
    return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
