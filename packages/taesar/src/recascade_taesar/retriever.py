"""A model of one domain in the place of one that knows all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever, TopK
from recascade.data.encoded import EncodedSplit


class DomainRetriever:
    """Answers requests with mixed histories: it reads their events of its own domain, and recommends its own items.

    Args:
        inner: recommends items of the domain.
        inner_data: the split it was trained on.
        outer_data: the split whose items requests and answers are in.
    """

    def __init__(self, inner: Retriever, inner_data: EncodedSplit, outer_data: EncodedSplit) -> None:
        self.inner = inner
        outward = outer_data.items.encode(inner_data.items.ids, unknown=-1).copy()
        inward = np.full(len(outer_data.items), -1, dtype=np.int64)
        inward[outward[outward >= 0]] = np.flatnonzero(outward >= 0)
        self._inward = torch.from_numpy(inward)
        self._outward = torch.from_numpy(outward)

    @property
    def device(self) -> torch.device:
        """Where the inner retriever wants its requests."""
        return torch.device(getattr(self.inner, "device", "cpu"))

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """The k best items of each request; see ``recascade.contracts.retriever.Retriever``."""
        device = context.items.device
        inward, outward = self._inward.to(device), self._outward.to(device)
        items = inward[context.items]
        inside = items >= 0
        lengths = torch.zeros_like(context.lengths).index_add_(0, context.rows[inside], inside[inside].long())
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        own = Context(
            context.users.new_full(context.users.shape, -1),
            items[inside],
            context.timestamps[inside],
            offsets,
            context.now,
        )
        if candidates is not None:
            candidates = inward[candidates]
            candidates = candidates[candidates >= 0]
        found = self.inner.retrieve(own, k, exclude_seen=exclude_seen, candidates=candidates)
        return TopK(torch.where(found.items >= 0, outward[found.items.clamp(min=0)], -1), found.scores)
