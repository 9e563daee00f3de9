"""Attention over short padded lists, under any mask.

Candidate lists have some ten to fifty entries: padding them costs less than packing, and their scores fit the cache.
"""

from __future__ import annotations

from torch import Tensor

from recascade.nn.dropout import dropout as drop
from recascade.nn.masked_softmax import masked_softmax


def padded_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1); a query that sees nothing gets zeros.

    Args:
        query: ``[B, q, H, D]``, H heads of width D.
        key: ``[B, k, H, D]``.
        value: ``[B, k, H, D]``.
        visible: bool, broadcasts with ``[B, H, q, k]``: which keys a query sees.
        dropout: share of attention weights set to 0 (the others grow by 1 / (1 - dropout)); pass 0 outside training.

    Returns:
        ``[B, q, H, D]``.
    """
    scores = (query * query.shape[-1] ** -0.5).transpose(1, 2) @ key.permute(0, 2, 3, 1)
    weights = drop(masked_softmax(scores, visible), dropout)
    return (weights @ value.transpose(1, 2)).transpose(1, 2)
