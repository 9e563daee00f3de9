"""Training of CL4SRec: next items, and two views of one history among those of all others."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemBatch
from recascade.models.cl4srec import CL4SRec
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.next_item import NextItemModule


class CL4SRecModule(NextItemModule):
    """Minimises the loss of the next items plus the contrast of views.

    Args:
        model: CL4SRec.
        data: the split.
        loss: of the next items.
        trainer: learning rate, monitor and so on.
        contrast: λ, weight of the contrast (paper: 0.1).
        exclude_seen: validate as the evaluation will.
    """

    def __init__(
        self,
        model: CL4SRec,
        data: EncodedSplit,
        loss: LossConfig,
        trainer: TrainerConfig,
        *,
        contrast: float,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__(model, data, loss, trainer, exclude_seen=exclude_seen)
        self.contrast = contrast

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        """The mean loss over the batch's targets, plus the weighted mean contrast over its histories."""
        loss = super().training_step(batch, batch_idx)
        if not self.contrast:
            return loss
        model = cast(CL4SRec, self.model)
        views = [model.newest_states(model.view(batch.context)) for _ in range(2)]
        return loss + self.contrast * contrast_of_views(*views)


def contrast_of_views(first: Tensor, second: Tensor) -> Tensor:
    """Mean cross-entropy of each view's other half among the views of all histories (paper, equation 4).

    Args:
        first: ``[B, d]``, states of one view of each history.
        second: ``[B, d]``, of the other.

    Returns:
        Scalar; inner products are compared, without a temperature, each view against the 2 (B - 1) of the others.
    """
    # Without a temperature the scores grow with the states: in half precision they are too coarse.
    with torch.autocast(first.device.type, enabled=False):
        states = torch.cat([first, second]).float()
        scores = states @ states.t()
    scores = scores.masked_fill(torch.eye(len(states), dtype=torch.bool, device=states.device), -torch.inf)
    partners = torch.arange(len(states), device=states.device).roll(len(first))
    return cross_entropy(scores, partners)
