"""The student: one score per candidate in one pass, then a sort (paper: its role; form inferred)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.nn.list_encoder import ListBlock, masked_mean
from recascade.nn.tower import tower
from recascade_psad.config import PSADConfig
from recascade_psad.user_profile_network import UserView


class Student(nn.Module):
    """``s_i = MLP([x̃_i ‖ u ‖ c])``, where c, what is known of the other candidates, is their mean.

    Without context c is left out; with attention the candidates first pass one transformer block over the list, and c
    is the mean behind it.

    Args:
        config: sizes, and the kind of context.
    """

    def __init__(self, config: PSADConfig) -> None:
        super().__init__()
        context = config.student.context
        self.block = (
            ListBlock(config.dimension, config.heads, config.hidden, config.dropout) if context == "attention" else None
        )
        self.pooled = context != "none"
        inputs = config.dimension * (3 if self.pooled else 2)
        self.perceptron = tower([inputs, *config.student.hidden, 1], dropout=config.dropout)

    def forward(self, view: UserView) -> Tensor:
        """float ``[B, n]``, greater is better; without meaning in padding."""
        candidates, mask = view.candidates, view.mask
        if self.block is not None:
            candidates = self.block(candidates, mask)
        inputs = [candidates, view.intent[:, None].expand_as(candidates)]
        if self.pooled:
            inputs.append(masked_mean(candidates, mask)[:, None].expand_as(candidates))
        scores: Tensor = self.perceptron(torch.cat(inputs, -1))
        return scores[..., 0]
