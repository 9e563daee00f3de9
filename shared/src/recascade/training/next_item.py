"""Training of next-item models: the losses and the steps, nothing else."""

from __future__ import annotations

from typing import Any, cast

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemBatch
from recascade.errors import ConfigurationError
from recascade.evaluation.ranking_metrics import ranking_metric
from recascade.evaluation.requests import find_hits, requests, target_sets
from recascade.models.next_item import InnerProductRetriever, NextItemModel
from recascade.nn.losses import binary_cross_entropy, full_softmax, sampled_softmax
from recascade.training.compilation import compiled
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.negatives import NegativeSampler
from recascade.training.optimizer import adam


class NextItemModule(L.LightningModule):
    """Trains a ``NextItemModel`` and measures it on the validation users by full ranking.

    Args:
        model: an ``nn.Module`` with ``max_length``, ``states`` and ``item_vectors``.
        data: the split; its validation part is measured, its training part gives the popularity of items (for the draw
            of negatives, and for requests without history).
        loss: what to minimise.
        trainer: learning rate, monitor and so on.
        exclude_seen: validate as the evaluation will, with or without the items of the user's own history.
    """

    _popularity: Tensor

    def __init__(
        self,
        model: nn.Module,
        data: EncodedSplit,
        loss: LossConfig,
        trainer: TrainerConfig,
        *,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__()
        loss.check()
        self.model = model
        self.data = data
        self.loss = loss
        self.trainer_config = trainer
        self.exclude_seen = exclude_seen
        self.monitor_metric, self.monitor_cutoff = parse_monitor(trainer.monitor)
        counts = torch.from_numpy(data.item_counts)
        self.register_buffer("_popularity", counts.float(), persistent=False)
        self.negatives = NegativeSampler(counts, loss.popularity_exponent)
        next_item_model = cast(NextItemModel, model)
        self._states = compiled(next_item_model.states, trainer)
        self._item_vectors = next_item_model.item_vectors
        self._metric_values: list[NDArray[np.float64]] = []
        self._retriever: InnerProductRetriever | None = None

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        """The mean loss over the batch's targets."""
        states = self._states(batch.context)
        # Mixed precision gives half-precision states, but a sum over a catalogue needs single precision.
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        if len(batch.positions) < len(states):
            states = states.index_select(0, batch.positions)
        if self.loss.name == "full_softmax":
            return full_softmax(
                states, self._item_vectors(), batch.targets, owners=batch.owners, temperature=self.loss.temperature
            )
        if batch.owners is not None:
            states = states.index_select(0, batch.owners)
        return self._sampled_loss(states, batch.targets)

    def _sampled_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Loss of states ``[N, d]`` against one target each (int64 ``[N]``) and random negatives."""
        count = self.loss.negatives
        blocks = -(-len(targets) // (self.loss.block if self.loss.sharing == "block" else 1))
        drawn = self.negatives.draw((count,) if self.loss.sharing == "batch" else (blocks, count))
        vectors = self._item_vectors(torch.cat([targets, drawn.flatten()]))
        positives = vectors[: len(targets)]
        negatives = vectors[len(targets) :].view(*drawn.shape, -1)
        size = -(-len(targets) // max(blocks, 1))
        against = drawn if drawn.dim() == 1 else drawn.repeat_interleave(size, 0)[: len(targets)]
        collisions = targets[:, None] == against
        if self.loss.name == "binary_cross_entropy":
            return binary_cross_entropy(
                states, positives, negatives, collisions=collisions, temperature=self.loss.temperature
            )
        correct = self.loss.log_q and not self.negatives.uniform
        return sampled_softmax(
            states,
            positives,
            negatives,
            log_q_positive=self.negatives.log_q[targets] if correct else None,
            log_q_negative=self.negatives.log_q[drawn] if correct else None,
            collisions=collisions,
            temperature=self.loss.temperature,
        )

    def on_validation_epoch_start(self) -> None:
        """Compute item vectors afresh: a retriever keeps those of its first request."""
        self._metric_values = []
        self._retriever = InnerProductRetriever(cast(NextItemModel, self.model), self._popularity)

    def validation_step(self, rows: Tensor, batch_idx: int) -> None:
        """The monitored metric of each of these rows (int64 ``[B]``) of the validation part."""
        assert self._retriever is not None
        chosen = rows.cpu().numpy()
        context = requests(self.data.events, self.data.validation, chosen).to(self.device)
        rankable = self.data.rankable
        best = self._retriever.retrieve(
            context,
            self.monitor_cutoff,
            exclude_seen=self.exclude_seen,
            candidates=None if rankable is None else torch.from_numpy(rankable).to(self.device),
        )
        items = len(self.data.items)
        targets = target_sets(self.data.events, self.data.validation, chosen, items)
        hits = find_hits(best.items.int().cpu().numpy(), targets.rows, targets.items, items)
        self._metric_values.append(ranking_metric(self.monitor_metric)(hits, targets.counts, self.monitor_cutoff))

    def on_validation_epoch_end(self) -> None:
        """Mean over users, over all ranks."""
        values = np.concatenate(self._metric_values) if self._metric_values else np.empty(0)
        values = values[~np.isnan(values)]
        sums = torch.tensor([values.sum(), len(values)], dtype=torch.float64, device=self.device)
        total, users = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        self.log(self.trainer_config.monitor, total / users if users else float("nan"), logger=False)
        self._retriever = None

    def configure_optimizers(self) -> Any:
        """Adam over the model's parameters."""
        return adam(self.model.parameters(), self.trainer_config)


def parse_monitor(monitor: str) -> tuple[str, int]:
    """``"ndcg@10"`` to ``("ndcg", 10)``.

    Raises:
        ConfigurationError: no such metric, or no cutoff.
    """
    name, _, cutoff = monitor.partition("@")
    if not cutoff.isdigit() or int(cutoff) < 1:
        raise ConfigurationError(
            f"trainer.monitor is {monitor!r}; it must be a metric and a list length, as 'ndcg@10'."
        )
    ranking_metric(name)
    return name, int(cutoff)
