"""Assign points to centroids of which each has room for only so many."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.tokenizers.kmeans import nearest


def balanced_assignment(points: Tensor, centroids: Tensor, capacity: int) -> Tensor:
    """Every point asks the nearest centroid that still has room; a centroid takes the nearest of those who ask.

    Greedy and in rounds: whom a full centroid refuses asks the next one. The paper balances its k-means without naming
    an algorithm; this one is our choice.

    Args:
        points: float32 ``[N, d]``.
        centroids: float32 ``[K, d]``.
        capacity: most points of a centroid; K · capacity must be at least N.

    Returns:
        Index of each point's centroid, int64 ``[N]``.
    """
    assignment = torch.full((len(points),), -1)
    room = torch.full((len(centroids),), capacity)
    waiting = torch.arange(len(points))
    while len(waiting):
        open_centroids = (room > 0).nonzero().squeeze(1)
        index, distances = nearest(points[waiting], centroids[open_centroids])
        wanted = open_centroids[index]
        # By centroid, and by distance within a centroid: two stable sorts.
        order = torch.argsort(distances, stable=True)
        order = order[torch.argsort(wanted[order], stable=True)]
        wanted = wanted[order]
        asked = torch.bincount(wanted, minlength=len(centroids))
        place = torch.arange(len(wanted)) - (asked.cumsum(0) - asked)[wanted]
        taken = place < room[wanted]
        assignment[waiting[order[taken]]] = wanted[taken]
        room -= torch.minimum(asked, room)
        waiting = waiting[order[~taken]].sort().values
    return assignment
