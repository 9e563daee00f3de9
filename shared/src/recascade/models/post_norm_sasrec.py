"""SASRec as RecBole builds it: a causal BERT over items."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.next_item import check_lengths
from recascade.nn.dropout import dropout
from recascade.nn.packed import PackedLayout
from recascade.nn.post_norm_block import PostNormBlock


class PostNormSASRec(nn.Module):
    """Item and position embeddings, a norm, post-norm blocks; items are scored with their input embedding.

    RecBole's re-implementation (release 1.2), which much work of 2023 to 2026 builds on. It differs from the authors'
    SASRec (``recascade.models.sasrec``) in the order of its layers, GELU, a norm on the input and none at the end.

    Args:
        items: size I of the catalogue.
        dimension: width d.
        blocks: transformer blocks.
        heads: attention heads of each.
        max_length: the most events of a history; positions count from its oldest event.
        dropout: rate on the input and inside the blocks.
        hidden: inner width of the position-wise parts; None for d.
    """

    def __init__(
        self,
        items: int,
        dimension: int = 64,
        blocks: int = 2,
        heads: int = 2,
        max_length: int = 128,
        dropout: float = 0.2,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.dropout = dropout
        self.item_embedding = nn.Parameter(torch.empty(items, dimension))
        self.position_embedding = nn.Parameter(torch.empty(max_length, dimension))
        nn.init.normal_(self.item_embedding, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.02)
        self.input_norm = nn.LayerNorm(dimension, eps=1e-12)
        self.blocks = nn.ModuleList(
            PostNormBlock(dimension, heads, dropout, hidden or dimension) for _ in range(blocks)
        )

    def states(self, context: Context, rows: Tensor | None = None) -> Tensor:
        """``[T, d]`` float32; row t depends on events up to t of its own sequence.

        Args:
            context: B sequences with T events in all.
            rows: int64 ``[R]``, the only events whose states are wanted; the result is ``[R, d]``.

        Raises:
            DataError: a sequence is longer than ``max_length``.
        """
        layout = PackedLayout.of(context.offsets)
        check_lengths(layout.longest, self.max_length)
        vectors = self.item_embedding.index_select(0, context.items)
        events = self.input_norm(vectors + self.position_embedding.index_select(0, layout.positions))
        events = dropout(events, self.dropout if self.training else 0.0)
        for block in self.blocks[:-1]:
            events = block(events, layout)
        return cast(Tensor, self.blocks[-1](events, layout, rows))

    def newest_states(self, context: Context) -> Tensor:
        """``[B, d]``, the state of each request's newest event, 0 where there is none."""
        known = context.lengths > 0
        newest = self.states(context, context.offsets[1:][known] - 1)
        return newest.new_zeros(context.batch_size, newest.shape[1]).index_copy_(0, known.nonzero()[:, 0], newest)

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """``[n, d]`` embeddings of these items (int64 ``[n]``), or all ``[I, d]``."""
        return self.item_embedding if items is None else self.item_embedding.index_select(0, items)
