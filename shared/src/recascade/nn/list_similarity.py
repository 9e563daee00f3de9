"""How alike the candidates of a list are, by their fields and features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def candidate_similarity(fields: Tensor, features: Tensor, mask: Tensor) -> Tensor:
    """float ``[B, n, n]`` in [-1, 1]: mean of the share of equal fields and the cosine of the features, as far as there
    are either; 1 on the diagonal, 0 in padding. Our choice.

    An unknown field equals none but its own candidate's. The matrix is positive semi-definite, as a determinantal
    process needs: a mean of inner products.

    Args:
        fields: int64 ``[B, n, S]``, 0 for unknown.
        features: float ``[B, n, F]``.
        mask: bool ``[B, n]``, True for a candidate.
    """
    same = torch.eye(mask.shape[1], device=mask.device)
    kernels = []
    if fields.shape[2]:
        equal = (fields[:, :, None] == fields[:, None]) & (fields[:, :, None] > 0)
        kernels.append(torch.where(same.bool()[None], 1.0, equal.float().mean(3)))
    if features.shape[2]:
        directions = normalize(features, dim=2)
        cosines = directions @ directions.transpose(1, 2)
        kernels.append(torch.where(same.bool()[None], 1.0, cosines))
    if not kernels:
        kernels.append(same.expand(len(mask), -1, -1))
    similarity = torch.stack(kernels).mean(0)
    return similarity * (mask[:, :, None] & mask[:, None])
