"""From scores or slot-by-candidate logits to orders of short padded lists."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.stable_top_k import stable_top_k


def order_by_scores(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    """The first ``count`` places of each list by falling score; of equal scores the earlier place comes first.

    Padding never comes before a candidate, whatever the scores: also a candidate of score -inf stands before it.

    Args:
        scores: float ``[B, n]``, no NaN among the candidates; padding may hold anything.
        mask: bool ``[B, n]``, True for a candidate.
        count: m.

    Returns:
        int64 ``[B, m]``, places 0…n-1; -1 behind the last candidate.
    """
    lowest = torch.finfo(scores.dtype).min
    held = scores.clamp(min=lowest).masked_fill(~mask, -torch.inf)
    _, places = stable_top_k(held, count)
    return surplus_marked(places, mask, count)


def surplus_marked(places: Tensor, mask: Tensor, count: int) -> Tensor:
    """int64 ``[B, count]``: the given places ``[B, at most count]``, -1 behind each list's last candidate."""
    if places.shape[1] < count:
        places = torch.cat([places, places.new_full((len(places), count - places.shape[1]), -1)], 1)
    filled = torch.arange(count, device=places.device) < mask.sum(1, keepdim=True)
    return places.masked_fill(~filled, -1)


def commit_greedily(logits: Tensor, mask: Tensor) -> Tensor:
    """Fill slots from first to last, each with its best candidate that no earlier slot took.

    Args:
        logits: float ``[B, m, n]``, of slot j for candidate i, no NaN.
        mask: bool ``[B, n]``, True for a candidate.

    Returns:
        int64 ``[B, m]``, as of ``order_by_scores``.
    """
    slots = logits.shape[1]
    open_places = mask.clone()
    lowest = torch.finfo(logits.dtype).min
    chosen = []
    for slot in range(min(slots, logits.shape[2])):
        place = logits[:, slot].clamp(min=lowest).masked_fill(~open_places, -torch.inf).argmax(1, keepdim=True)
        open_places.scatter_(1, place, False)
        chosen.append(place)
    return surplus_marked(torch.cat(chosen, 1), mask, slots)
