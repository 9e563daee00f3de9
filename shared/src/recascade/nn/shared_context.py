"""Keys and values of a request's context, stored once and read by all its beams or candidate ids.

Beams stand on the sequence axis of the attention, not on its batch axis: a request with n beams reads its context once
per step instead of n copies of it (GR4AD, arXiv 2602.22732, section 4.2, "beam-shared KV cache").
"""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.nn.code_attention import code_scores
from recascade.nn.dropout import dropout as drop
from recascade.nn.packed import PackedLayout


class SharedContext:
    """The context of B requests in one attention layer.

    Args:
        keys: ``[T, H, D]`` of T packed events.
        values: likewise.
        layout: of the T events; every request has at least one.
    """

    def __init__(self, keys: Tensor, values: Tensor, layout: PackedLayout) -> None:
        self.order = layout.order
        self.places = torch.argsort(layout.order)
        self.keys = [part.permute(0, 2, 3, 1) for part in layout.rectangles(layout.pad(keys))]
        self.values = [part.transpose(1, 2) for part in layout.rectangles(layout.pad(values))]
        self.lengths = layout.lengths

    def attend(
        self,
        query: Tensor,
        *,
        visible: Tensor | None = None,
        own: tuple[Tensor, Tensor] | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attention of codes to their request's context, and to the codes of their own id if asked.

        Args:
            query: ``[B, n, s, H, D]``: s codes of n ids per request.
            visible: int64 ``[B, n]``, how many events of the context each id may see, at least 1; None for all.
            own: keys and values ``[B, n, t, H, D]`` of the ids' codes, to share one softmax with the context.
            dropout: rate on the attention weights; pass 0 outside training.

        Returns:
            ``[B, n, s, H, D]``.
        """
        visible = self.lengths[:, None] if visible is None else visible.repeat_interleave(query.shape[2], dim=1)
        outputs, first = [], 0
        for keys, values in zip(self.keys, self.values, strict=True):
            rows = self.order[first : first + len(keys)]
            first += len(keys)
            own_rows = None if own is None else (own[0].index_select(0, rows), own[1].index_select(0, rows))
            outputs.append(_attend(query.index_select(0, rows), keys, values, visible[rows], own_rows, dropout))
        return torch.cat(outputs).index_select(0, self.places)


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, visible: Tensor, own: tuple[Tensor, Tensor] | None, rate: float
) -> Tensor:
    """One rectangle: ``query [b, n, s, H, D]``, ``keys [b, H, D, W]``, ``values [b, H, W, D]``, ``visible [b, n * s]``
    or ``[b, 1]``."""
    batch, ids, steps, heads, depth = query.shape
    width = keys.shape[3]
    scores = torch.matmul(query.flatten(1, 2).transpose(1, 2) * depth**-0.5, keys)
    hidden = torch.arange(width, device=query.device) >= visible[..., None]
    scores = scores.masked_fill(hidden[:, None], -torch.inf)
    if own is not None:
        mine = code_scores(query, own[0]).transpose(1, 2).flatten(2, 3)
        scores = torch.cat([scores, mine], dim=-1)
    weights = drop(scores.softmax(-1), rate)
    attended = torch.matmul(weights[..., :width], values).transpose(1, 2).reshape(batch, ids, steps, heads, depth)
    if own is not None:
        own_weights = weights[..., width:].view(batch, heads, ids, steps, -1).transpose(1, 2)
        attended = attended + torch.matmul(own_weights, own[1].transpose(2, 3)).transpose(2, 3)
    return attended
