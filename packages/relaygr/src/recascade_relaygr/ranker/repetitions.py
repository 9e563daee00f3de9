"""How often the user had a candidate before: the ranker's cross feature (paper: there are such; which, our choice).

It is counted in the ranking stage over the whole history, prefix and recent events, and no event's state depends on it,
so that prefixes stay safe to be run ahead.
"""

from __future__ import annotations

import torch
from torch import Tensor

BUCKETS = 20


def repetitions(history: Tensor, items: Tensor) -> Tensor:
    """int64 ``[k]``: how often each of ``items`` (int64 ``[k]``) stands in one ``history`` (int64 ``[n]``); 0 for
    items that training never saw (-1)."""
    ordered = history.sort().values
    found = torch.searchsorted(ordered, items, right=True) - torch.searchsorted(ordered, items)
    return found.where(items >= 0, 0)


def repetitions_in_groups(histories: Tensor, items: Tensor, visible: Tensor) -> Tensor:
    """int64 ``[B, P, G]``: how often each candidate stands among the events that its group sees.

    Args:
        histories: int64 ``[B, L]``, padded with anything.
        items: int64 ``[B, P, G]``, -1 for items that training never saw.
        visible: bool ``[B, P, L]``, which events a group sees.
    """
    same = (items[..., None] == histories[:, None, None]) & visible[:, :, None]
    return same.sum(-1).where(items >= 0, 0)


def buckets(counts: Tensor) -> Tensor:
    """int64, ``floor(2 log2(1 + n))``, at most 19: single counts apart, large ones in half octaves.

    >>> buckets(torch.tensor([0, 1, 2, 3, 4, 7, 500, 5000])).tolist()
    [0, 2, 3, 4, 4, 6, 17, 19]
    """
    return counts.add(1).double().log2().mul(2.0).long().clamp(max=BUCKETS - 1)
