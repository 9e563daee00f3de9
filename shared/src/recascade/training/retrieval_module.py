"""What the training of every retriever shares: validation by full ranking, and Adam."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit
from recascade.training.config import TrainerConfig
from recascade.training.optimizer import adam
from recascade.training.retrieval_validation import RetrievalValidation


class RetrievalModule(L.LightningModule, ABC):
    """Measures on the validation users what would serve the model; what a training step minimises is the child's.

    Args:
        model: what is trained and kept.
        data: the split; its validation part is measured, its training part gives the popularity of items.
        trainer: learning rate, monitor and so on.
        exclude_seen: validate as the evaluation will, with or without the items of the user's own history.
    """

    popularity: Tensor
    """float32 ``[I]``, training events per item."""

    def __init__(self, model: nn.Module, data: EncodedSplit, trainer: TrainerConfig, *, exclude_seen: bool) -> None:
        super().__init__()
        self.model = model
        self.data = data
        self.trainer_config = trainer
        self.register_buffer("popularity", torch.from_numpy(data.item_counts).float(), persistent=False)
        self._validation = RetrievalValidation(data, trainer.monitor, exclude_seen=exclude_seen)
        self._retriever: Retriever | None = None

    @abstractmethod
    def retriever(self) -> Retriever:
        """What serves the model as it is now."""

    def on_validation_epoch_start(self) -> None:
        """A retriever keeps what it computes of the model, so each validation has one of its own."""
        self._retriever = self.retriever()

    def validation_step(self, rows: Tensor, batch_idx: int) -> None:
        """The monitored metric of each of these rows (int64 ``[B]``) of the validation part."""
        assert self._retriever is not None
        self._validation.measure(self._retriever, rows, self.device)

    def on_validation_epoch_end(self) -> None:
        """Mean over users, over all ranks."""
        self.log(self.trainer_config.monitor, self._validation.take_mean(self), logger=False)
        self._retriever = None

    def configure_optimizers(self) -> Any:
        """Adam over the model's parameters."""
        return adam(self.model.parameters(), self.trainer_config)
