"""Training on the events of one domain alone, whatever the histories hold."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemBatch
from recascade.models.next_item import NextItemModel
from recascade.nn.losses import full_softmax
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.next_item import NextItemModule


class DomainNextItemModule(NextItemModule):
    """The full softmax over one domain's items, for targets of that domain; other targets count for nothing.

    Args:
        model: a ``NextItemModel``.
        data: the split.
        members: int64 ``[C]``, the domain's items.
        trainer: learning rate, monitor and so on.
        exclude_seen: validate as the evaluation will.
    """

    _members: Tensor
    _columns: Tensor

    def __init__(
        self,
        model: nn.Module,
        data: EncodedSplit,
        members: Tensor,
        trainer: TrainerConfig,
        *,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__(model, data, LossConfig(), trainer, exclude_seen=exclude_seen)
        columns = torch.full((len(data.items),), -1)
        columns[members] = torch.arange(len(members))
        self.register_buffer("_members", members, persistent=False)
        self.register_buffer("_columns", columns, persistent=False)

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        """The mean loss over the batch's targets in the domain; 0 where there are none."""
        states = self._states(batch.context)
        columns = self._columns[batch.targets]
        kept = columns >= 0
        if not kept.any():
            return 0.0 * states.sum()
        positions = batch.positions if batch.owners is None else batch.positions[batch.owners]
        vectors = cast(NextItemModel, self.model).item_vectors(self._members)
        return full_softmax(states.index_select(0, positions[kept]), vectors, columns[kept])
