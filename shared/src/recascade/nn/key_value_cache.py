"""Keys and values of events already read, so that a new event costs one query instead of the whole history."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recascade.nn.packed import PackedLayout


class KeyValueCache:
    """Keys and values of one attention layer for B growing sequences.

    Args:
        batch_size: B.
        heads: H.
        capacity: the most events of a sequence.
        depth: D, width of a head.
        device: where to keep them.
        dtype: of keys and values.

    Attributes:
        lengths: int64 ``[B]``, events stored of each sequence.
    """

    def __init__(
        self, batch_size: int, heads: int, capacity: int, depth: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.keys = torch.zeros(batch_size, capacity, heads, depth, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout) -> Tensor:
        """Store the new events, and let each see itself and everything of its sequence before it.

        Args:
            query: ``[T, H, D]`` of the new events, packed.
            key: ``[T, H, D]``.
            value: ``[T, H, D]``.
            layout: of the T new events.

        Returns:
            ``[T, H, D]``.
        """
        rows, places = layout.rows, self.lengths.index_select(0, layout.rows) + layout.positions
        self.keys[rows, places] = key
        self.values[rows, places] = value
        newest = self.lengths[:, None] + torch.arange(layout.longest, device=query.device)
        self.lengths = self.lengths + layout.lengths
        longest = int(self.lengths.max())
        queries = query.new_zeros(len(newest), layout.longest, *query.shape[1:])
        queries[rows, layout.positions] = query
        visible = torch.arange(longest, device=query.device) <= newest[:, :, None]
        attended = scaled_dot_product_attention(
            queries.transpose(1, 2),
            self.keys[:, :longest].transpose(1, 2),
            self.values[:, :longest].transpose(1, 2),
            attn_mask=visible[:, None],
        )
        return attended.transpose(1, 2)[rows, layout.positions]
