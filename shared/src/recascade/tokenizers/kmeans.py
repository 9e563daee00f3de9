"""k-means by matrix products: Lloyd's iterations on a sample, and nearest centroids in pieces."""

from __future__ import annotations

import torch
from torch import Tensor

# So many products stay in the cache until their maxima are found, which saves a third of the time.
_PRODUCTS_AT_ONCE = 1 << 17
_LEAST_ROWS_AT_ONCE = 256
_POINTS_TO_BEGIN_WITH = 4
# Relative to the mean size of a coordinate.
_STEP_ASIDE = 0.02


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each point; of equally near ones the first.

    Args:
        points: float32 ``[N, d]``.
        centroids: float32 ``[K, d]``.

    Returns:
        Index of the centroid, int64 ``[N]``, and the squared distance to it, float32 ``[N]``.
    """
    # |p - c|² = |p|² - 2 (p·c - |c|²/2): the first term does not decide, so one product and one maximum are enough.
    offsets = centroids.square().sum(dim=1).mul_(-0.5)
    transposed = centroids.T
    indices = torch.empty(len(points), dtype=torch.int64)
    products = torch.empty(len(points), dtype=points.dtype)
    step = max(_LEAST_ROWS_AT_ONCE, _PRODUCTS_AT_ONCE // len(centroids))
    for first in range(0, len(points), step):
        piece = points[first : first + step]
        products[first : first + step], indices[first : first + step] = torch.addmm(offsets, piece, transposed).max(
            dim=1
        )
    return indices, torch.linalg.vector_norm(points, dim=1).square_().sub_(products, alpha=2).clamp_(min=0)


def squared_distances(points: Tensor, centroids: Tensor) -> Tensor:
    """All squared distances, float32 ``[N, K]``."""
    table = torch.addmm(centroids.square().sum(dim=1), points, centroids.T, alpha=-2)
    return table.add_(points.square().sum(dim=1, keepdim=True)).clamp_(min=0)


def means(points: Tensor, assignment: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each centroid's points, and how many they are; a centroid without points stays where it was.

    Args:
        points: float32 ``[N, d]``.
        assignment: int64 ``[N]``.
        centroids: float32 ``[K, d]``, as they were.

    Returns:
        float32 ``[K, d]`` and int64 ``[K]``.
    """
    counts = torch.bincount(assignment, minlength=len(centroids))
    sums = torch.zeros_like(centroids).index_add_(0, assignment, points)
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids), counts


def fit_centroids(
    points: Tensor, clusters: int, *, iterations: int, sample_per_cluster: int, generator: torch.Generator
) -> Tensor:
    """Lloyd's algorithm on a sample.

    What is left over after a level is mostly noise of many dimensions: there a centroid that begins as a single point
    keeps only itself, and one near the middle takes all others. So each begins as the mean of four points (our choice),
    and one that loses all its points takes over half of a large cluster (as in faiss). On MovieLens-1M's texts that
    lowers the error of 3 × 256 codes from .61 to .57 of the variance, and the items lost to collisions from 34 % to
    0.4 %.

    Args:
        points: float32 ``[N, d]``, N at least ``clusters``.
        clusters: K.
        iterations: of assignment and mean; it stops earlier when no assignment changes.
        sample_per_cluster: iterate on at most this many points per cluster, drawn at random, as faiss does with 256: a
            mean of 256 points is as good as one of all.
        generator: source of all random choices.

    Returns:
        float32 ``[K, d]``.
    """
    order = torch.randperm(len(points), generator=generator)
    sample = points[order[: clusters * sample_per_cluster]]
    together = min(_POINTS_TO_BEGIN_WITH, len(sample) // clusters)
    centroids = sample[: clusters * together].reshape(together, clusters, -1).mean(dim=0)
    counts = torch.ones(clusters, dtype=torch.int64)
    previous = torch.empty(0)
    for _ in range(iterations):
        centroids = _split_largest(centroids, counts, generator)
        assignment, _ = nearest(sample, centroids)
        centroids, counts = means(sample, assignment, centroids)
        if torch.equal(assignment, previous):
            break
        previous = assignment
    return centroids


def _split_largest(centroids: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Move centroids without points beside those with most, which step aside by as much."""
    empty = (counts == 0).nonzero().squeeze(1)
    largest = counts.topk(len(empty)).indices
    shift = torch.rand((len(empty), centroids.shape[1]), generator=generator) - 0.5
    shift *= _STEP_ASIDE * centroids[largest].abs().mean(dim=1, keepdim=True)
    centroids[empty] = centroids[largest] + shift
    centroids[largest] -= shift
    return centroids
