"""One pre-norm block of an encoder–decoder's decoder, over the codes of many ids per request."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.beam_cache import BeamCache
from recascade.nn.code_attention import code_attention
from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.multi_head import MultiHeadProjections
from recascade.nn.packed import PackedLayout
from recascade.nn.shared_context import SharedContext


class DecoderBlock(nn.Module):
    """Causal self-attention over the codes of an id, attention to the request's context, then the position-wise part,
    each around a residual connection (Vaswani et al. 2017; T5).

    Args:
        dimension: width d of the stream.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on all parts' outputs.
    """

    def __init__(self, dimension: int, heads: int, head_width: int | None, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_norm = nn.LayerNorm(dimension)
        self.self_attention = MultiHeadProjections(dimension, heads, head_width)
        self.context_norm = nn.LayerNorm(dimension)
        self.context_attention = MultiHeadProjections(dimension, heads, head_width)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def context(self, encoded: Tensor, layout: PackedLayout) -> SharedContext:
        """This block's keys and values of the encoder's output, ``[T, d]`` packed."""
        return SharedContext(*self.context_attention.keys_values(encoded), layout)

    def forward(
        self,
        codes: Tensor,
        context: SharedContext,
        *,
        visible: Tensor | None = None,
        cache: BeamCache | None = None,
        parents: Tensor | None = None,
    ) -> Tensor:
        """``[B, n, s, d]`` to ``[B, n, s, d]``.

        Args:
            codes: the whole ids, or with a cache their newest codes (s = 1).
            context: of this block.
            visible: int64 ``[B, n]``, how much of the context each id sees; None for all.
            cache: of this block, for the codes before.
            parents: int64 ``[B, n]``, see ``BeamCache.extend``; needed with a cache.
        """
        rate = self.dropout if self.training else 0.0
        normalised = self.self_norm(codes)
        keys, values = self.self_attention.keys_values(normalised)
        if cache is not None and parents is not None:
            keys, values = cache.extend(keys, values, parents)
        attended = code_attention(self.self_attention.queries(normalised), keys, values, dropout=rate)
        stream = dropout_add(self.self_attention.join(attended), codes, rate)
        query = self.context_attention.queries(self.context_norm(stream))
        attended = context.attend(query, visible=visible, dropout=rate)
        stream = dropout_add(self.context_attention.join(attended), stream, rate)
        result: Tensor = self.feed_forward(stream)
        return result
