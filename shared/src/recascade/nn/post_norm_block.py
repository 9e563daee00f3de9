"""One transformer block for packed sequences with the norms behind the residual connections, as in BERT."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu

from recascade.errors import ConfigurationError
from recascade.nn.attention import causal_attention
from recascade.nn.dropout import dropout_add
from recascade.nn.packed import PackedLayout


class PostNormBlock(nn.Module):
    """``y = norm(x + attention(x)); out = norm(y + contract(gelu(expand(y))))``, causal, every layer with a bias.

    The block of RecBole's SASRec (release 1.2): weights drawn from N(0, 0.02²), norms with an epsilon of 1e-12, dropout
    on the attention weights and on both parts' outputs.

    Args:
        dimension: width d of the stream.
        heads: attention heads; must divide ``dimension``.
        dropout: rate on the attention weights and on both outputs.
        hidden: inner width of the position-wise part.
    """

    def __init__(self, dimension: int, heads: int, dropout: float, hidden: int) -> None:
        super().__init__()
        if dimension % heads:
            raise ConfigurationError(f"heads={heads} does not divide dimension={dimension}; choose a divisor.")
        self.heads = heads
        self.dropout = dropout
        self.projections = nn.Linear(dimension, 3 * dimension)
        self.output = nn.Linear(dimension, dimension)
        self.attention_norm = nn.LayerNorm(dimension, eps=1e-12)
        self.expand = nn.Linear(dimension, hidden)
        self.contract = nn.Linear(hidden, dimension)
        self.feed_forward_norm = nn.LayerNorm(dimension, eps=1e-12)
        for linear in (self.projections, self.output, self.expand, self.contract):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, events: Tensor, layout: PackedLayout, rows: Tensor | None = None) -> Tensor:
        """``[T, d]`` packed events to ``[T, d]``; row t depends on events up to t of its own sequence.

        Args:
            events: ``[T, d]``.
            layout: of the T events.
            rows: int64 ``[R]``, the only rows to compute the position-wise part for; the result is ``[R, d]``.
        """
        rate = self.dropout if self.training else 0.0
        split = self.projections(events).view(len(events), 3, self.heads, -1)
        query, key, value = split.unbind(1)
        attended = causal_attention(query, key, value, layout, dropout=rate).flatten(1)
        if rows is not None:
            attended, events = attended.index_select(0, rows), events.index_select(0, rows)
        stream = self.attention_norm(dropout_add(self.output(attended), events, rate))
        transformed = self.contract(gelu(self.expand(stream)))
        result: Tensor = self.feed_forward_norm(dropout_add(transformed, stream, rate))
        return result
