"""A decoder-only generator: history and next item are one sequence of codes (as the GPT-style variants compared by
GRID, CIKM 2025, and MiniOneRec, arXiv 2510.24431)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from recascade.models.code_embedding import CodeEmbedding
from recascade.models.code_generator import CodeGenerator
from recascade.models.history_tokens import HistoryTokens, Reading
from recascade.nn.continuation_block import ContinuationBlock
from recascade.nn.packed import PackedLayout
from recascade.nn.shared_context import SharedContext


class DecoderOnly(CodeGenerator):
    """Causal blocks read the history; the same blocks then continue it with the codes of the next item.

    Args:
        codes: int64 ``[I, L]``, the ids of the items.
        sizes: codes per level.
        dimension: width d of the stream.
        blocks: how many.
        heads: attention heads.
        head_width: width of a head; None for d / heads.
        hidden: inner width of the position-wise parts.
        max_length: the most events of a history.
        dropout: rate on the input and inside the blocks.
        reading: ``codes`` or ``items``, see ``HistoryTokens``.
        user_buckets: start tokens of hashed users; 0 for none.
    """

    def __init__(
        self,
        codes: Tensor,
        sizes: Sequence[int],
        *,
        dimension: int = 128,
        blocks: int = 4,
        heads: int = 4,
        head_width: int | None = None,
        hidden: int = 512,
        max_length: int = 20,
        dropout: float = 0.1,
        reading: Reading = "codes",
        user_buckets: int = 0,
    ) -> None:
        embedding = CodeEmbedding(sizes, dimension)
        history = HistoryTokens(codes, embedding, max_length, reading=reading, user_buckets=user_buckets)
        shape = (dimension, heads, head_width, hidden, dropout)
        super().__init__(
            history, embedding, [ContinuationBlock(*shape) for _ in range(blocks)], one_pass=True, dropout=dropout
        )

    def contexts(self, tokens: Tensor, layout: PackedLayout) -> list[SharedContext]:
        """Each block's keys and values of the history."""
        blocks = [cast(ContinuationBlock, block) for block in self.decoder]
        contexts = []
        for block in blocks[:-1]:
            tokens, shared = block.read(tokens, layout)
            contexts.append(shared)
        return [*contexts, blocks[-1].read_last(tokens, layout)]
