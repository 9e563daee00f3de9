"""Alignment of what an item tower gives for rare categories with what it gives for the most frequent one."""

from __future__ import annotations

import torch
from torch import Tensor


def category_alignment(vectors: Tensor, categories: Tensor) -> Tensor:
    """Scalar: ``sum over categories c of ‖C(major) - C(c)‖²``, C the covariance of a category's vectors in the batch.

    DAT (Yu et al., DLP-KDD 2021), equation of the category alignment loss. That the major category is the batch's most
    frequent one and that categories with a single vector are left out is our choice.

    Args:
        vectors: ``[B, d]``, of items.
        categories: int64 ``[B]``; 0 for items without one, which are left out.
    """
    present, indices, counts = torch.unique(categories, return_inverse=True, return_counts=True)
    counts = counts.to(vectors)[:, None]
    means = vectors.new_zeros(len(present), vectors.shape[1]).index_add(0, indices, vectors) / counts
    deviations = vectors - means.index_select(0, indices)
    products = (deviations[:, :, None] * deviations[:, None, :]).flatten(1)
    covariances = vectors.new_zeros(len(present), products.shape[1]).index_add(0, indices, products)
    comparable = (present > 0) & (counts[:, 0] > 1)
    if not bool(comparable.any()):
        return vectors.new_zeros(())
    covariances = covariances[comparable] / (counts[comparable] - 1)
    major = covariances[counts[comparable, 0].argmax()]
    distance: Tensor = (covariances - major).square().sum()
    return distance
