"""One layer of the LazyAR decoder."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.beam_cache import BeamCache
from recascade.nn.code_attention import code_attention
from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.multi_head import MultiHeadProjections
from recascade.nn.shared_context import SharedContext


class LazyBlock(nn.Module):
    """Attention to the context, causal self-attention over the steps of an id, then the position-wise part, in this
    order, each behind a norm and around a residual connection (GR4AD, figure 1).

    The context's keys and values come ready from the context processor, so the block has only queries for them.

    Args:
        dimension: width d of the stream.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on all parts' outputs.
    """

    def __init__(self, dimension: int, heads: int, head_width: int | None, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        width = heads * (head_width or dimension // heads)
        self.context_norm = nn.LayerNorm(dimension)
        self.context_query = nn.Linear(dimension, width, bias=False)
        self.context_output = nn.Linear(width, dimension, bias=False)
        for linear in (self.context_query, self.context_output):
            nn.init.xavier_uniform_(linear.weight)
        self.self_norm = nn.LayerNorm(dimension)
        self.self_attention = MultiHeadProjections(dimension, heads, head_width)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def forward(
        self,
        stream: Tensor,
        context: SharedContext,
        *,
        cache: BeamCache | None = None,
        parents: Tensor | None = None,
    ) -> Tensor:
        """``[B, n, s, d]`` to ``[B, n, s, d]``: s steps of n ids per request.

        Args:
            stream: all steps, or with a cache the newest one (s = 1).
            context: the keys and values of this layer.
            cache: of this layer, for the steps before.
            parents: int64 ``[B, n]``, see ``BeamCache.extend``; needed with a cache.
        """
        rate = self.dropout if self.training else 0.0
        query: Tensor = self.context_query(self.context_norm(stream))
        attended = context.attend(query.view(*stream.shape[:-1], self.heads, -1), dropout=rate)
        stream = dropout_add(self.context_output(attended.flatten(-2)), stream, rate)
        normalised = self.self_norm(stream)
        keys, values = self.self_attention.keys_values(normalised)
        if cache is not None and parents is not None:
            keys, values = cache.extend(keys, values, parents)
        attended = code_attention(self.self_attention.queries(normalised), keys, values, dropout=rate)
        stream = dropout_add(self.self_attention.join(attended), stream, rate)
        result: Tensor = self.feed_forward(stream)
        return result
