"""What a batch's prompts should have been answered with, as ids."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.data.next_item import NextItemBatch


def target_ids(batch: NextItemBatch, codes: Tensor) -> Tensor:
    """The targets of each prompt: several where a whole basket comes next.

    Args:
        batch: P sequences, each with targets after its last event alone.
        codes: int64 ``[I, L]``, ids of the items.

    Returns:
        int64 ``[P, T, L]``, -1 where a prompt has fewer than T targets.
    """
    ids = codes.index_select(0, batch.targets)
    if batch.owners is None:
        return ids[:, None]
    counts = torch.bincount(batch.owners, minlength=batch.context.batch_size)
    column = torch.arange(len(ids), device=ids.device) - (counts.cumsum(0) - counts)[batch.owners]
    targets = ids.new_full((len(counts), int(counts.max()), ids.shape[1]), -1)
    targets[batch.owners, column] = ids
    return targets


def pick_anchors(targets: Tensor, which: str) -> Tensor:
    """One target of each prompt, to be put into a failed group.

    Args:
        targets: int64 ``[P, T, L]``, at least one of each prompt, absent ones negative.
        which: ``first``, or ``random`` with torch's own generator.

    Returns:
        int64 ``[P, L]``.
    """
    there = (targets >= 0).all(-1)
    order = torch.rand(there.shape, device=targets.device) if which == "random" else torch.ones_like(there).float()
    place = (order * there).argmax(1)
    return targets[torch.arange(len(targets), device=targets.device), place]
