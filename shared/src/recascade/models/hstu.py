"""HSTU: hierarchical sequential transduction units (Zhai et al., ICML 2024, arXiv 2402.17152) as a next-item model."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from recascade.contracts.context import Context
from recascade.models.next_item import check_lengths
from recascade.nn.dropout import dropout
from recascade.nn.hstu import HSTULayer, Normaliser
from recascade.nn.packed import PackedLayout
from recascade.nn.pointwise_attention import time_buckets

Output = Literal["layer_norm", "unit_length"]


class HSTU(nn.Module):
    """Item embeddings (times sqrt(d)) plus learned positions, then HSTU layers; items are scored with their embedding.

    Args:
        items: size I of the catalogue.
        dimension: width d.
        blocks: HSTU layers.
        heads: attention heads of each.
        max_length: the most events of a history.
        dropout: rate on the input and in the layers.
        attention_dimension: width of queries and keys per head; None for ``dimension / heads``.
        value_dimension: width of values and gates per head; None for ``dimension / heads``.
        position_bias: see ``HSTULayer``.
        time_buckets: see ``HSTULayer``; give 0 for data without times.
        normaliser: see ``HSTULayer``.
        output: what makes a state of the last layer comparable with items. ``unit_length`` is the release's: states and
            item vectors are scaled to length 1, for a loss with a temperature of about 0.05. ``layer_norm`` is
            SASRec's, for inner products without a temperature.
        initial_deviation: standard deviation of the initial embeddings (the release: 0.02).
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
        attention_dimension: int | None = None,
        value_dimension: int | None = None,
        position_bias: bool = True,
        time_buckets: int = 128,
        normaliser: Normaliser = "max_length",
        output: Output = "layer_norm",
        initial_deviation: float = 0.02,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.dropout = dropout
        self.time_buckets = time_buckets
        self.output = output
        self.scale = dimension**0.5
        self.item_embedding = nn.Parameter(torch.empty(items, dimension))
        self.position_embedding = nn.Parameter(torch.empty(max_length, dimension))
        nn.init.normal_(self.item_embedding, std=initial_deviation)
        nn.init.normal_(self.position_embedding, std=initial_deviation)
        self.blocks = nn.ModuleList(
            HSTULayer(
                dimension,
                heads,
                dropout,
                max_length,
                attention_dimension=attention_dimension,
                value_dimension=value_dimension,
                position_bias=position_bias,
                time_buckets=time_buckets,
                normaliser=normaliser,
            )
            for _ in range(blocks)
        )
        self.final_norm = nn.LayerNorm(dimension) if output == "layer_norm" else None

    def states(self, context: Context) -> Tensor:
        """``[T, d]`` float32; row t depends on events up to t of its own sequence.

        Raises:
            DataError: a sequence is longer than ``max_length``. An accelerator, and compiled code, do not look at
                lengths; there it is an index out of range.
        """
        layout = PackedLayout.bounded(context.offsets, context.items.shape[0], self.max_length)
        check_lengths(layout.longest, self.max_length)
        buckets = time_buckets(context.timestamps, layout, self.time_buckets) if self.time_buckets else None
        events = self.item_embedding.index_select(0, context.items)
        events = torch.add(self.position_embedding.index_select(0, layout.positions), events, alpha=self.scale)
        events = dropout(events, self.dropout if self.training else 0.0)
        for block in self.blocks:
            events = block(events, layout, buckets)
        return normalize(events, dim=1) if self.final_norm is None else cast(Tensor, self.final_norm(events))

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """``[n, d]`` vectors of these items (int64 ``[n]``), or all ``[I, d]``."""
        vectors = self.item_embedding if items is None else self.item_embedding.index_select(0, items)
        return normalize(vectors, dim=1) if self.output == "unit_length" else vectors
