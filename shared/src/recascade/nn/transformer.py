"""One transformer block for packed sequences, in the layer orders that sequential recommenders use."""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from recascade.errors import ConfigurationError
from recascade.nn.attention import causal_attention
from recascade.nn.dropout import dropout_add, relu_dropout
from recascade.nn.key_value_cache import KeyValueCache
from recascade.nn.packed import PackedLayout

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
        self.expand = nn.Linear(dimension, hidden or dimension)
        self.contract = nn.Linear(hidden or dimension, dimension)
        # Glorot's uniform initialisation, TensorFlow's default and so the release's, of each matrix by itself.
        for linear in (self.query, self.key_value, self.output, self.expand, self.contract):
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
        rate = self.dropout if self.training else 0.0
        normalised = self.attention_norm(events)
        if self.order == "pre_norm":
            attended = self._attention(normalised, normalised, layout, rate, cache)
            stream = residual = dropout_add(attended, events, rate)
            stream = self.feed_forward_norm(stream)
        else:
            stream = residual = self.feed_forward_norm(
                normalised + self._attention(normalised, events, layout, rate, cache)
            )
        hidden = relu_dropout(self.expand(stream), rate)
        return dropout_add(self.contract(hidden), residual, rate)

    def _attention(
        self, queries: Tensor, events: Tensor, layout: PackedLayout, rate: float, cache: KeyValueCache | None
    ) -> Tensor:
        size, dimension = events.shape
        query = self.query(queries).view(size, self.heads, dimension // self.heads)
        key, value = self.key_value(events).view(size, 2, self.heads, dimension // self.heads).unbind(1)
        if cache is None:
            attended = causal_attention(query, key, value, layout, dropout=rate)
        else:
            attended = cache.attend(query, key, value, layout)
        joined = attended.flatten(1)
        return joined if self.output is None else cast(Tensor, self.output(joined))
