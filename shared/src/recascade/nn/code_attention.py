"""Attention of the codes of an id to each other."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.dropout import dropout as drop


def code_attention(query: Tensor, keys: Tensor, values: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Each code sees itself and the earlier codes of its own id.

    Args:
        query: ``[B, n, s, H, D]``: the last s codes of n ids per request.
        keys: ``[B, n, t, H, D]``, of all t ≥ s codes.
        values: likewise.
        dropout: rate on the attention weights; pass 0 outside training.

    Returns:
        ``[B, n, s, H, D]``.
    """
    weights = drop(code_scores(query, keys).softmax(-1), dropout)
    return torch.matmul(weights, values.transpose(2, 3)).transpose(2, 3)


def code_scores(query: Tensor, keys: Tensor) -> Tensor:
    """Scaled inner products ``[B, n, H, s, t]``, -inf where a code would see a later one (see ``code_attention``)."""
    steps, total = query.shape[2], keys.shape[2]
    scores = torch.matmul(query.transpose(2, 3) * query.shape[-1] ** -0.5, keys.permute(0, 1, 3, 4, 2))
    if steps == 1:
        return scores
    later = torch.ones(steps, total, dtype=torch.bool, device=query.device).triu_(total - steps + 1)
    return scores.masked_fill(later, -torch.inf)
