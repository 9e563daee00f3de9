"""TIGER: an encoder reads the codes of a history, a decoder writes those of the next item (Rajput et al., NeurIPS 2023,
arXiv 2305.05065)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from recascade.models.code_embedding import CodeEmbedding
from recascade.models.code_generator import CodeGenerator
from recascade.models.history_tokens import HistoryTokens, Reading
from recascade.nn.decoder_block import DecoderBlock
from recascade.nn.encoder_block import EncoderBlock
from recascade.nn.packed import PackedLayout
from recascade.nn.shared_context import SharedContext


class TIGER(CodeGenerator):
    """A T5-like encoder–decoder with learned places instead of T5's relative position biases (our choice).

    Args:
        codes: int64 ``[I, L]``, the ids of the items.
        sizes: codes per level.
        dimension: width d of the stream.
        encoder_blocks: blocks of the encoder.
        decoder_blocks: blocks of the decoder.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise parts.
        max_length: the most events of a history.
        dropout: rate on the input and inside the blocks.
        causal: let the encoder see only back. It then learns from every event of a sequence in one pass, for a fraction
            of the time (our choice; the paper's encoder sees both ways, so each target needs its own pass).
        reading: ``codes`` or ``items``, see ``HistoryTokens``.
        user_buckets: start tokens of hashed users; 0 for none (the paper: 2,000).
    """

    def __init__(
        self,
        codes: Tensor,
        sizes: Sequence[int],
        *,
        dimension: int = 128,
        encoder_blocks: int = 4,
        decoder_blocks: int = 4,
        heads: int = 6,
        head_width: int | None = 64,
        hidden: int = 1024,
        max_length: int = 20,
        dropout: float = 0.1,
        causal: bool = False,
        reading: Reading = "codes",
        user_buckets: int = 0,
    ) -> None:
        embedding = CodeEmbedding(sizes, dimension)
        history = HistoryTokens(
            codes, embedding, max_length, reading=reading, from_end=not causal, user_buckets=user_buckets
        )
        shape = (dimension, heads, head_width, hidden, dropout)
        super().__init__(
            history, embedding, [DecoderBlock(*shape) for _ in range(decoder_blocks)], one_pass=causal, dropout=dropout
        )
        self.encoder = nn.ModuleList(EncoderBlock(*shape, causal=causal) for _ in range(encoder_blocks))
        self.encoder_norm = nn.LayerNorm(dimension)

    def contexts(self, tokens: Tensor, layout: PackedLayout) -> list[SharedContext]:
        """Keys and values of the encoded history for each block of the decoder."""
        for block in self.encoder:
            tokens = block(tokens, layout)
        encoded = self.encoder_norm(tokens)
        return [cast(DecoderBlock, block).context(encoded, layout) for block in self.decoder]
