"""The ranking stage's order: the ranker's scores and the retriever's places, weighed against each other.

A ranker that forgets the retriever's order throws away what only the retriever knows (which items follow each other,
what a household buys); the two err differently. Our choice: the sum below, and one weight for all requests.
"""

from __future__ import annotations

import torch
from torch import Tensor


def blended(scores: Tensor, items: Tensor, weight: float) -> Tensor:
    """``weight · z(score) + (1 - weight) · z(-log place)``, where z standardises over the candidates of one list.

    Places, not the retriever's scores: these may be counts, distances or probabilities of any scale and tail.

    Args:
        scores: float ``[B, k]``, the ranker's; -inf for an item that it cannot score, which stays -inf.
        items: int64 ``[B, k]``, best of the retriever first, -1 where a list is shorter.
        weight: of the ranker, from 0 to 1.

    Returns:
        float ``[B, k]``; a list with a score NaN is NaN, so that whoever checks for it finds it.
    """
    scored = (items >= 0) & (scores != -torch.inf)
    places = torch.arange(1, items.shape[1] + 1, dtype=scores.dtype, device=scores.device).expand_as(scores)
    mixed = weight * _standardised(scores, scored) + (1 - weight) * _standardised(-places.log(), scored)
    return mixed.masked_fill(~scored, -torch.inf)


def _standardised(values: Tensor, counted: Tensor) -> Tensor:
    counts = counted.sum(1, keepdim=True).clamp(min=1)
    centred = values.masked_fill(~counted, 0)
    centred = (centred - centred.sum(1, keepdim=True) / counts).masked_fill(~counted, 0)
    deviation = (centred.square().sum(1, keepdim=True) / counts).sqrt()
    # All scores of a list may be equal: then they say nothing.
    return centred / deviation.where(deviation != 0, 1)
