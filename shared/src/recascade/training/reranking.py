"""Training of list models: one module for all of them, with the objective as a setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recascade.contracts.reranker import Reranker
from recascade.data.reranking_batch import RerankingBatch
from recascade.evaluation.list_metrics import ordered_labels, parse_list_metric
from recascade.models.evaluation_mode import evaluation_mode
from recascade.models.list_model import ScoringModel, SlotModel
from recascade.nn.list_losses import (
    attention_rank,
    click_log_loss,
    listwise_softmax,
    slot_cross_entropy,
    slot_unlikelihood,
)
from recascade.nn.list_order import order_by_scores
from recascade.training.compilation import compiled
from recascade.training.config import TrainerConfig
from recascade.training.optimizer import adam

Objective = Callable[[RerankingBatch], Tensor]
ScoreLoss = Literal["listwise_softmax", "attention_rank", "click_log_loss"]
Prefix = Literal["gold", "self"]

_SCORE_LOSSES: dict[ScoreLoss, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "listwise_softmax": listwise_softmax,
    "attention_rank": attention_rank,
    "click_log_loss": click_log_loss,
}


def score_objective(model: ScoringModel, loss: ScoreLoss) -> Objective:
    """The loss of a scoring model's scores; see ``recascade.nn.list_losses``."""
    function = _SCORE_LOSSES[loss]
    return lambda batch: function(model.list_scores(batch), batch.labels, batch.candidate_mask)


def slot_objective(model: SlotModel, prefix: Prefix, unlikelihood: float) -> Objective:
    """The loss of a slot model's distributions, given an order that stands before each slot.

    Args:
        model: the generator.
        prefix: ``gold`` is clicked candidates first, each part in its initial order; ``self`` is the order that the
            model writes at this moment, so that it learns to go on from its own mistakes.
        unlikelihood: weight of ``slot_unlikelihood``; 0 for none.
    """

    def objective(batch: RerankingBatch) -> Tensor:
        mask, places = batch.candidate_mask, batch.candidate_mask.shape[1]
        if prefix == "gold":
            before = order_by_scores(batch.labels, mask, places)
        else:
            with torch.no_grad(), evaluation_mode(_module(model)):
                before = model.generate(batch, places)
        log_shares = model.slot_log_shares(batch, before)
        loss = slot_cross_entropy(log_shares, batch.labels, mask, before)
        if unlikelihood:
            loss = loss + unlikelihood * slot_unlikelihood(log_shares, batch.labels, mask, before)
        return loss

    return objective


class RerankingModule(L.LightningModule):
    """Trains a list model and measures its re-ranker on the validation lists.

    Args:
        model: what is trained and kept.
        objective: the loss of a batch.
        reranker: serves the model; it is asked for orders without labels.
        trainer: learning rate, monitor (a metric of lists, as ``ndcg@10``) and so on.
    """

    def __init__(self, model: nn.Module, objective: Objective, reranker: Reranker, trainer: TrainerConfig) -> None:
        super().__init__()
        self.model = model
        self.objective = compiled(objective, trainer)
        self.reranker = reranker
        self.trainer_config = trainer
        self.metric, self.cutoff = parse_list_metric(trainer.monitor)
        self._values: list[NDArray[np.float64]] = []

    def training_step(self, batch: RerankingBatch, batch_idx: int) -> Tensor:
        """The mean loss over the batch's lists."""
        return self.objective(batch)

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        self._values = []

    def validation_step(self, batch: RerankingBatch, batch_idx: int) -> None:
        """The monitored metric of each list."""
        places = batch.labels.shape[1]
        orders = self.reranker.rerank(batch.without_labels(), min(self.cutoff, places)).cpu().numpy()
        labels = batch.labels.cpu().numpy()
        self._values.append(self.metric(ordered_labels(labels, orders), labels, self.cutoff))

    def on_validation_epoch_end(self) -> None:
        """Mean over lists, over all ranks."""
        values = np.concatenate(self._values) if self._values else np.empty(0)
        sums = torch.tensor([values.sum(), len(values)], dtype=torch.float64, device=self.device)
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        self.log(self.trainer_config.monitor, total / count if count else float("nan"), logger=False)

    def configure_optimizers(self) -> Any:
        """Adam over the model's parameters."""
        return adam(self.model.parameters(), self.trainer_config)


def _module(model: SlotModel) -> nn.Module:
    module: nn.Module = model  # type: ignore[assignment]
    return module
