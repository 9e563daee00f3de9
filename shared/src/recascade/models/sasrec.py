"""SASRec: self-attention over a user's history (Kang and McAuley, ICDM 2018, arXiv 1808.09781)."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.errors import ConfigurationError
from recascade.models.next_item import check_lengths
from recascade.nn.dropout import dropout
from recascade.nn.key_value_cache import KeyValueCache
from recascade.nn.packed import PackedLayout
from recascade.nn.transformer import LayerOrder, TransformerBlock

Positions = Literal["from_start", "from_end"]


class SASRec(nn.Module):
    """Learned positions, causal transformer blocks, a last norm; items are scored with the input embedding.

    Args:
        items: size I of the catalogue.
        dimension: width d.
        blocks: transformer blocks.
        heads: attention heads of each block.
        max_length: the most events of a history; also the number of learned positions.
        dropout: rate on the input and inside the blocks.
        order: layer order of the blocks, see ``TransformerBlock``.
        positions: ``from_start`` numbers the events of a window from its oldest (0) on. ``from_end`` gives the newest
            event number ``max_length - 1``, as the padded-to-the-left peers do; there a state in the middle of a
            training sequence knows how many events will follow it, which no state at serving time does.
        output_projection: see ``TransformerBlock``.
        scale_embedding: multiply item embeddings by sqrt(d) at the input (the authors' release does).
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
    """

    def __init__(
        self,
        items: int,
        dimension: int = 64,
        blocks: int = 2,
        heads: int = 1,
        max_length: int = 50,
        dropout: float = 0.2,
        *,
        order: LayerOrder = "release",
        positions: Positions = "from_start",
        output_projection: bool = True,
        scale_embedding: bool = True,
        initial_deviation: float = 0.02,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.heads = heads
        self.dropout = dropout
        self.positions = positions
        self.scale = dimension**0.5 if scale_embedding else 1.0
        self.item_embedding = nn.Parameter(torch.empty(items, dimension))
        self.position_embedding = nn.Parameter(torch.empty(max_length, dimension))
        self.blocks = nn.ModuleList(
            TransformerBlock(dimension, heads, dropout, order=order, output_projection=output_projection)
            for _ in range(blocks)
        )
        self.final_norm = nn.LayerNorm(dimension)
        nn.init.normal_(self.item_embedding, std=initial_deviation)
        nn.init.normal_(self.position_embedding, std=initial_deviation)

    def states(self, context: Context) -> Tensor:
        """``[T, d]`` float32; row t depends on events up to t of its own sequence.

        Raises:
            DataError: a sequence is longer than ``max_length``. An accelerator, and compiled code, do not look at
                lengths; there it is an index out of range.
        """
        layout = PackedLayout.bounded(context.offsets, context.items.shape[0], self.max_length)
        events = self._inputs(context, layout)
        for block in self.blocks:
            events = block(events, layout)
        return cast(Tensor, self.final_norm(events))

    def newest_states(self, context: Context) -> Tensor:
        """``[B, d]``, the state of each request's newest event, 0 where there is none: only those rows of ``states``.

        The last block computes nothing for the other events.

        Raises:
            DataError: a sequence is longer than ``max_length``.
        """
        layout = PackedLayout.of(context.offsets)
        events = self._inputs(context, layout)
        for block in self.blocks[:-1]:
            events = block(events, layout)
        newest: Tensor = self.final_norm(cast(TransformerBlock, self.blocks[-1]).newest(events, layout))
        states = newest.new_zeros(context.batch_size, newest.shape[1])
        return states.index_copy_(0, layout.occupied, newest)

    def new_cache(self, batch_size: int) -> list[KeyValueCache]:
        """Empty caches of the blocks for this many sequences."""
        weight = self.item_embedding
        heads, depth = self.heads, weight.shape[1] // self.heads
        return [
            KeyValueCache(batch_size, heads, self.max_length, depth, weight.device, weight.dtype) for _ in self.blocks
        ]

    @torch.inference_mode()
    def extend(self, context: Context, caches: list[KeyValueCache]) -> Tensor:
        """States ``[T, d]`` of new events that continue cached sequences, as ``states`` gives for the whole of them.

        Args:
            context: only the new events of the B sequences, T in all.
            caches: from ``new_cache``; the new events are added.

        Raises:
            ConfigurationError: positions are counted from the end, where every new event renumbers the old ones.
            DataError: a sequence grows longer than ``max_length``.
        """
        if self.positions == "from_end":
            raise ConfigurationError("A key-value cache needs positions='from_start'; this model has 'from_end'.")
        layout = PackedLayout.of(context.offsets)
        before = caches[0].lengths
        check_lengths(int((before + layout.lengths).max()), self.max_length)
        events = self._embed(context.items, before.index_select(0, layout.rows) + layout.positions)
        for block, cache in zip(self.blocks, caches, strict=True):
            events = block(events, layout, cache)
        return cast(Tensor, self.final_norm(events))

    def _inputs(self, context: Context, layout: PackedLayout) -> Tensor:
        check_lengths(layout.longest, self.max_length)
        places = layout.positions
        if self.positions == "from_end":
            places = places + (self.max_length - layout.lengths).index_select(0, layout.rows)
        return self._embed(context.items, places)

    def _item_inputs(self, items: Tensor) -> Tensor:
        # index_select, because the gradient of embedding is a slower scatter on a CPU.
        return self.item_embedding.index_select(0, items)

    def _embed(self, items: Tensor, places: Tensor) -> Tensor:
        vectors = self._item_inputs(items)
        events = torch.add(self.position_embedding.index_select(0, places), vectors, alpha=self.scale)
        return dropout(events, self.dropout if self.training else 0.0)

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """``[n, d]`` embeddings of these items (int64 ``[n]``), or all ``[I, d]``."""
        return self.item_embedding if items is None else self.item_embedding.index_select(0, items)
