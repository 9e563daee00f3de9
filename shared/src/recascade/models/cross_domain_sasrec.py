"""A model-centric answer to several domains: one encoder reads a user's own-domain and mixed history."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.sasrec import SASRec
from recascade.nn.packed import PackedLayout


class LowRank(nn.Module):
    """``x + up(down(x))``, which begins as the identity (Hu et al., ICLR 2022, without its scale)."""

    def __init__(self, dimension: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(dimension, rank, bias=False)
        self.up = nn.Linear(rank, dimension, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """``[..., d]`` to ``[..., d]``."""
        return states + cast(Tensor, self.up(self.down(states)))


class CrossDomainSASRec(SASRec):
    """SASRec over all domains whose states also know the history of one domain, read by the same blocks.

    After ABXI (Bian et al., WWW 2025, arXiv 2501.15118): the encoder is shared, low-rank adapters make it the domain's
    own, a low-rank projector fits the mixed state to the domain, and both are added. Ours: one target domain at a time,
    and the own state is that of the newest event of the domain so far (0 before the first).

    Args:
        items: size I of the catalogue.
        members: int64, the items of the target domain.
        rank: of the adapters and of the projector; 16 (paper: 8 to 32).
        dimension: width d.
        blocks: transformer blocks.
        heads: attention heads of each.
        max_length: the most events of a history.
        dropout: rate on the input and inside the blocks.
    """

    _inside: Tensor

    def __init__(
        self,
        items: int,
        members: Tensor,
        rank: int = 16,
        *,
        dimension: int = 64,
        blocks: int = 2,
        heads: int = 1,
        max_length: int = 50,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(items, dimension, blocks, heads, max_length, dropout)
        self.adapters = nn.ModuleList(LowRank(dimension, rank) for _ in range(blocks))
        self.projector = LowRank(dimension, rank)
        self.fused_norm = nn.LayerNorm(dimension)
        inside = torch.zeros(items, dtype=torch.bool)
        inside[members] = True
        self.register_buffer("_inside", inside, persistent=False)

    def states(self, context: Context) -> Tensor:
        """``[T, d]`` float32; row t depends on events up to t of its own sequence.

        Raises:
            DataError: a sequence is longer than ``max_length``.
        """
        mixed = super().states(context)
        inside = self._inside[context.items]
        rows = context.rows
        counts = torch.zeros_like(context.lengths).index_add_(0, rows, inside.long())
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        own = Context(context.users, context.items[inside], context.timestamps[inside], offsets)
        layout = PackedLayout.of(offsets)
        events = self._inputs(own, layout)
        for block, adapter in zip(self.blocks, self.adapters, strict=True):
            events = adapter(block(events, layout))
        # The newest event of the domain so far; before a sequence's first one there is none, which is the last row.
        newest = inside.long().cumsum(0) - 1
        newest = torch.where(newest >= offsets[rows], newest, len(events))
        known = torch.cat([self.final_norm(events), events.new_zeros(1, events.shape[1])])
        return cast(Tensor, self.fused_norm(known.index_select(0, newest) + self.projector(mixed)))

    def newest_states(self, context: Context) -> Tensor:
        """``[B, d]``, the state of each request's newest event, 0 where there is none."""
        states, known = self.states(context), context.lengths > 0
        newest = states.index_select(0, context.offsets[1:][known] - 1)
        return newest.new_zeros(context.batch_size, newest.shape[1]).index_copy_(0, known.nonzero()[:, 0], newest)
