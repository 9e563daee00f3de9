"""The mean of the most recent vectors at every event of packed sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.packed import PackedLayout


def causal_mean(events: Tensor, layout: PackedLayout, recent: int) -> Tensor:
    """Mean of each event's vector and those of the events before it in its sequence, at most ``recent`` of them.

    Args:
        events: ``[T, d]``, packed.
        layout: of the T events.
        recent: the most events in a mean.

    Returns:
        ``[T, d]``.
    """
    if not layout.groups:
        return events
    # Sums run within one sequence only, so that neither precision nor gradient depends on the rest of the batch.
    sums = []
    for rectangle in layout.rectangles(layout.pad(events)):
        running = rectangle.cumsum(1)
        if recent < running.shape[1]:
            running = torch.cat([running[:, :recent], running[:, recent:] - running[:, :-recent]], dim=1)
        sums.append(running.flatten(0, 1))
    counts = (layout.positions + 1).clamp(max=recent)
    return layout.unpad(torch.cat(sums)) / counts[:, None]
