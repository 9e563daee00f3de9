"""The target as an answer in the text of the response that it replaces."""

from __future__ import annotations

import torch
from torch import Tensor


def put_id(responses: Tensor, starts: Tensor, slots: Tensor, written: Tensor) -> Tensor:
    """Anchors: the response that is replaced, with the tokens of its first id swapped and everything before kept.

    The paper says only that the anchor is built from the true output. Sharing thought and format with the other answers
    lets their gradients cancel there (our choice).

    Args:
        responses: int64 ``[P, G, T]``.
        starts: int64 ``[P, G]``, where the first id of each begins, -1 where there is none; then the id is put where
            another response of the group has it, in that one's text, and at the very front if none has.
        slots: int64 ``[P]``, the responses to replace, negative for none.
        written: int64 ``[P, L]``, tokens of the id, L ≤ T.

    Returns:
        int64 ``[P, T]``.
    """
    rows = torch.arange(len(responses), device=responses.device)
    own = slots.clamp(min=0)
    other = (starts >= 0).byte().argmax(1)
    template = torch.where(starts[rows, own] >= 0, own, other)
    begin = starts[rows, template].clamp(min=0)
    places = begin[:, None] + torch.arange(written.shape[1], device=responses.device)
    return responses[rows, template].scatter(1, places, written)
