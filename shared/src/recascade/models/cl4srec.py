"""CL4SRec: SASRec that also learns to recognise its own altered histories (Xie et al., ICDE 2022, arXiv 2010.14395)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.models.sasrec import SASRec
from recascade.nn.sequence_views import crop, mask, reorder


class CL4SRec(SASRec):
    """SASRec with a vector for masked items, and random views of histories to compare with each other.

    Args:
        items: size I of the catalogue.
        crop_share: η, share of a history that a crop keeps; 0.6 (paper, among its grid of 0.1 to 0.9).
        mask_share: γ, share of its events that are masked; 0.3 (paper, likewise).
        reorder_share: β, share of it that is shuffled; 0.6 (paper, likewise).
        shape: the other arguments of ``SASRec``.
    """

    def __init__(
        self, items: int, *, crop_share: float = 0.6, mask_share: float = 0.3, reorder_share: float = 0.6, **shape: Any
    ) -> None:
        super().__init__(items, **shape)
        self.shares = crop_share, mask_share, reorder_share
        self.mask_vector = nn.Parameter(torch.empty(self.item_embedding.shape[1]))
        nn.init.normal_(self.mask_vector, std=0.02)

    def view(self, context: Context) -> Context:
        """Each history as one of the three views of it, drawn anew; a masked event has the item I.

        Args:
            context: histories with at least one event each.
        """
        lengths, rows = context.lengths, context.rows
        kind = torch.randint(3, (len(lengths),), device=lengths.device)[rows]
        crop_share, mask_share, reorder_share = self.shares
        source = torch.where(kind == 2, reorder(lengths, reorder_share), torch.arange(len(rows), device=rows.device))
        items = context.items[source]
        items = torch.where((kind == 1) & mask(lengths, mask_share), len(self.item_embedding), items)
        kept = crop(lengths, crop_share) | (kind != 0)
        counts = torch.zeros_like(lengths).index_add_(0, rows, kept.long())
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return replace(context, items=items[kept], timestamps=context.timestamps[kept], offsets=offsets)

    def _item_inputs(self, items: Tensor) -> Tensor:
        masked = (items == len(self.item_embedding))[:, None]
        return torch.where(
            masked, self.mask_vector, super()._item_inputs(items.clamp(max=len(self.item_embedding) - 1))
        )
