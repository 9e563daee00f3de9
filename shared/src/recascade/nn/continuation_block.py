"""One pre-norm block of a decoder-only model: reads histories, then continues each of them with many ids."""

from __future__ import annotations

from torch import Tensor, nn

from recascade.nn.attention import causal_attention
from recascade.nn.beam_cache import BeamCache
from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.multi_head import MultiHeadProjections
from recascade.nn.packed import PackedLayout
from recascade.nn.shared_context import SharedContext


class ContinuationBlock(nn.Module):
    """Causal self-attention and the position-wise part. A history and the id that continues it are one sequence to the
    attention, although several ids may continue one history.

    Args:
        dimension: width d of the stream.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise part.
        dropout: rate on attention weights and on both parts' outputs.
    """

    def __init__(self, dimension: int, heads: int, head_width: int | None, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(dimension)
        self.attention = MultiHeadProjections(dimension, heads, head_width)
        self.feed_forward = FeedForward(dimension, hidden, dropout)

    def read(self, events: Tensor, layout: PackedLayout) -> tuple[Tensor, SharedContext]:
        """The history: ``[T, d]`` packed to ``[T, d]``, and what continuations need of it."""
        normalised = self.norm(events)
        keys, values = self.attention.keys_values(normalised)
        query = self.attention.queries(normalised)
        attended = causal_attention(query, keys, values, layout, dropout=self._rate)
        return self._finish(attended, events), SharedContext(keys, values, layout)

    def read_last(self, events: Tensor, layout: PackedLayout) -> SharedContext:
        """Only what continuations need of the history: enough for a model's last block."""
        return SharedContext(*self.attention.keys_values(self.norm(events)), layout)

    def forward(
        self,
        codes: Tensor,
        context: SharedContext,
        *,
        visible: Tensor | None = None,
        cache: BeamCache | None = None,
        parents: Tensor | None = None,
    ) -> Tensor:
        """The ids: ``[B, n, s, d]`` to ``[B, n, s, d]``; arguments as of ``DecoderBlock.forward``."""
        normalised = self.norm(codes)
        keys, values = self.attention.keys_values(normalised)
        if cache is not None and parents is not None:
            keys, values = cache.extend(keys, values, parents)
        query = self.attention.queries(normalised)
        attended = context.attend(query, visible=visible, own=(keys, values), dropout=self._rate)
        return self._finish(attended, codes)

    @property
    def _rate(self) -> float:
        return self.dropout if self.training else 0.0

    def _finish(self, attended: Tensor, stream: Tensor) -> Tensor:
        result: Tensor = self.feed_forward(dropout_add(self.attention.join(attended), stream, self._rate))
        return result
