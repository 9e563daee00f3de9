"""One transformer block for packed sequences, in the layer orders that sequential recommenders use."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from recascade.errors import ConfigurationError
from recascade.nn.attention import causal_attention, newest_attention
from recascade.nn.dropout import dropout, dropout_add, relu_dropout
from recascade.nn.key_value_cache import KeyValueCache
from recascade.nn.packed import PackedLayout
from recascade.nn.tower import LayerFactory

LayerOrder = Literal["release", "pre_norm"]


class TransformerBlock(nn.Module):
    """Causal self-attention, then a position-wise feed-forward net.

    ``order="release"`` follows the code that SASRec's authors published (Kang and McAuley 2018): only the queries are
    normalised, keys and values are not, and both residual connections start from the normalised stream::

        q = norm(x);  y = q + attention(q, x, x);  z = norm(y);  out = z + feed_forward(z)

    ``order="pre_norm"`` is the usual pre-norm transformer, the one SASRec's paper writes down
    (``x + dropout(f(norm(x)))`` for both parts).

    Args:
        dimension: width d of the stream.
        heads: attention heads; must divide ``dimension``.
        dropout: rate on attention weights, the attention's output (``pre_norm`` only) and both feed-forward layers.
        hidden: width of the feed-forward net; None for ``dimension``, as SASRec.
        order: see above.
        output_projection: multiply the joined heads by a matrix. The authors' release has none; the re-implementations
            whose figures are quoted today (PyTorch's ``MultiheadAttention``) have one.
        layer: makes the two layers of the feed-forward net, and initialises them; None for linear ones.
    """

    def __init__(
        self,
        dimension: int,
        heads: int,
        dropout: float,
        *,
        hidden: int | None = None,
        order: LayerOrder = "release",
        output_projection: bool = True,
        layer: LayerFactory | None = None,
    ) -> None:
        super().__init__()
        if dimension % heads:
            raise ConfigurationError(f"heads={heads} does not divide dimension={dimension}; choose a divisor.")
        self.heads = heads
        self.dropout = dropout
        self.order = order
        self.attention_norm = nn.LayerNorm(dimension)
        self.query = nn.Linear(dimension, dimension)
        self.key_value = nn.Linear(dimension, 2 * dimension)
        self.output = nn.Linear(dimension, dimension) if output_projection else None
        self.feed_forward_norm = nn.LayerNorm(dimension)
        hidden = hidden or dimension
        self.expand: nn.Module
        self.contract: nn.Module
        linears = [self.query, self.key_value, self.output]
        if layer is None:
            self.expand, self.contract = nn.Linear(dimension, hidden), nn.Linear(hidden, dimension)
            linears += [self.expand, self.contract]
        else:
            self.expand = layer(dimension, hidden, activation=True, first=False)
            self.contract = layer(hidden, dimension, activation=False, first=False)
        self.activates_itself = layer is not None
        # Glorot's uniform initialisation, TensorFlow's default and so the release's, of each matrix by itself.
        for linear in linears:
            if linear is not None:
                for matrix in linear.weight.chunk(2 if linear is self.key_value else 1):
                    nn.init.xavier_uniform_(matrix)
                nn.init.zeros_(linear.bias)

    def forward(self, events: Tensor, layout: PackedLayout, cache: KeyValueCache | None = None) -> Tensor:
        """``[T, d]`` packed events to ``[T, d]``; row t depends on events up to t of its own sequence.

        Args:
            events: ``[T, d]``.
            layout: of the T events.
            cache: this block's keys and values of earlier events of the same sequences; the new ones are added.
        """
        normalised = self.attention_norm(events)
        query, key, value = self._projections(normalised, normalised if self.order == "pre_norm" else events)
        if cache is None:
            attended = causal_attention(query, key, value, layout, dropout=self._rate)
        else:
            attended = cache.attend(query, key, value, layout)
        return self._feed_forward(events, normalised, attended)

    def newest(self, events: Tensor, layout: PackedLayout) -> Tensor:
        """``[N, d]``, only the rows ``layout.newest`` of what ``forward`` gives, for a fraction of its work."""
        newest = events.index_select(0, layout.newest)
        normalised = self.attention_norm(newest)
        sources = self.attention_norm(events) if self.order == "pre_norm" else events
        query, key, value = self._projections(normalised, sources)
        attended = newest_attention(query, key, value, layout, dropout=self._rate)
        return self._feed_forward(newest, normalised, attended)

    @property
    def _rate(self) -> float:
        return self.dropout if self.training else 0.0

    def _projections(self, queries: Tensor, sources: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dimension = queries.shape[1]
        query = self.query(queries).view(-1, self.heads, dimension // self.heads)
        key, value = self.key_value(sources).view(-1, 2, self.heads, dimension // self.heads).unbind(1)
        return query, key, value

    def _feed_forward(self, events: Tensor, normalised: Tensor, attended: Tensor) -> Tensor:
        """All that follows the heads, row by row."""
        joined = attended.flatten(1)
        if self.output is not None:
            joined = self.output(joined)
        if self.order == "pre_norm":
            residual = dropout_add(joined, events, self._rate)
            stream = self.feed_forward_norm(residual)
        else:
            stream = residual = self.feed_forward_norm(normalised + joined)
        expanded = self.expand(stream)
        hidden = (dropout if self.activates_itself else relu_dropout)(expanded, self._rate)
        return dropout_add(self.contract(hidden), residual, self._rate)
