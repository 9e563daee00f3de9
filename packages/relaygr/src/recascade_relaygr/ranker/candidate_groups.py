"""Candidates at several places of several histories: what training and offline evaluation need."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

if TYPE_CHECKING:
    from recascade_relaygr.ranker.layer import RankingLayer


class CandidateGroups(NamedTuple):
    """P groups of G candidates for each of B requests.

    ``seen`` int64 ``[B, P]``, how many events of the history the group sees; ``times`` int64 ``[B, P]``, seconds, when
    it is judged; ``items`` int64 ``[B, P, G]``, -1 for items that training never saw.
    """

    seen: Tensor
    times: Tensor
    items: Tensor


def attend_in_groups(layer: RankingLayer, tokens: Tensor, states: Tensor, bias: Tensor, visible: Tensor) -> Tensor:
    """One layer for candidates ``[B, P, G, d]``; returns the same shape.

    Args:
        layer: with its weights.
        tokens: the candidates.
        states: ``[B, L, width]``, of the histories, padded.
        bias: ``[B, P, L]``, the same for all candidates of a group.
        visible: bool ``[B, P, L]``, which events a group sees.
    """
    batch, places, size, _ = tokens.shape
    heads, width = layer.heads, layer.dimension
    projections = layer.project(tokens)

    def by_head(tensor: Tensor) -> Tensor:
        return tensor.reshape(batch, -1, heads, width // heads).transpose(1, 2)

    query = by_head(projections.query)
    scores = torch.matmul(query, by_head(states[..., :width]).transpose(2, 3))
    scores = scores.view(batch, heads, places, size, -1) + bias[:, None, :, None]
    weights = silu(scores) * visible[:, None, :, None]
    gathered = torch.matmul(weights.flatten(2, 3), by_head(states[..., width:]))
    own_keys, own_values = by_head(projections.state[..., :width]), by_head(projections.state[..., width:])
    own_weight = silu((query * own_keys).sum(-1, keepdim=True) + layer.own_bias())
    gathered = (gathered + own_weight * own_values).transpose(1, 2).flatten(2)
    return layer.finish(tokens, projections.gate, gathered.view(batch, places, size, -1))
