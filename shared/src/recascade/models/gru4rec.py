"""GRU4Rec: a recurrent net over the history (Hidasi et al., ICLR 2016; Hidasi and Karatzoglou, CIKM 2018)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.next_item import check_lengths
from recascade.nn.dropout import dropout
from recascade.nn.packed import PackedLayout
from recascade.nn.recurrent import packed_gru


class GRU4Rec(nn.Module):
    """Item embeddings, GRU layers, item vectors.

    Args:
        items: size I of the catalogue.
        dimension: width d of item vectors.
        hidden: width of the GRU; None for ``dimension``. A linear layer brings another width back to d (our choice).
        layers: GRU layers; the papers found one the best.
        max_length: the most events of a history.
        dropout: rate on the input and on the states.
        constrained: score items with the input embedding (``constrained_embedding`` of the authors' release); False
            gives them vectors of their own, as in the papers.
        initial_deviation: standard deviation of the initial embeddings (our choice: 0.02).
    """

    def __init__(
        self,
        items: int,
        dimension: int = 64,
        hidden: int | None = None,
        layers: int = 1,
        max_length: int = 50,
        dropout: float = 0.2,
        *,
        constrained: bool = True,
        initial_deviation: float = 0.02,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.dropout = dropout
        width = hidden or dimension
        self.item_embedding = nn.Parameter(torch.empty(items, dimension))
        nn.init.normal_(self.item_embedding, std=initial_deviation)
        self.output_embedding = self.item_embedding
        if not constrained:
            self.output_embedding = nn.Parameter(torch.empty(items, dimension))
            nn.init.normal_(self.output_embedding, std=initial_deviation)
        self.gru = nn.GRU(dimension, width, layers, dropout=dropout if layers > 1 else 0.0)
        self.project = None if width == dimension else nn.Linear(width, dimension)

    def states(self, context: Context) -> Tensor:
        """``[T, d]`` float32; row t depends on events up to t of its own sequence.

        Raises:
            DataError: a sequence is longer than ``max_length``.
        """
        layout = PackedLayout.of(context.offsets)
        check_lengths(layout.longest, self.max_length)
        rate = self.dropout if self.training else 0.0
        events = dropout(self.item_embedding.index_select(0, context.items), rate)
        states = dropout(packed_gru(self.gru, events, layout), rate)
        return states if self.project is None else cast(Tensor, self.project(states))

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """``[n, d]`` vectors of these items (int64 ``[n]``), or all ``[I, d]``."""
        return self.output_embedding if items is None else self.output_embedding.index_select(0, items)
