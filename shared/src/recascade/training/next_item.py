"""Training of next-item models: the losses, nothing else."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemBatch
from recascade.models.next_item import InnerProductRetriever, NextItemModel
from recascade.nn.losses import binary_cross_entropy, full_softmax, sampled_softmax
from recascade.training.compilation import compiled
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.negatives import NegativeSampler
from recascade.training.retrieval_module import RetrievalModule


class NextItemModule(RetrievalModule):
    """Trains a ``NextItemModel`` and measures it on the validation users by full ranking.

    Args:
        model: an ``nn.Module`` with ``max_length``, ``states`` and ``item_vectors``.
        data: the split; its validation part is measured, its training part gives the popularity of items (for the draw
            of negatives, and for requests without history).
        loss: what to minimise.
        trainer: learning rate, monitor and so on.
        exclude_seen: validate as the evaluation will, with or without the items of the user's own history.
    """

    def __init__(
        self,
        model: nn.Module,
        data: EncodedSplit,
        loss: LossConfig,
        trainer: TrainerConfig,
        *,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__(model, data, trainer, exclude_seen=exclude_seen)
        loss.check()
        self.loss = loss
        self.negatives = NegativeSampler(torch.from_numpy(data.item_counts), loss.popularity_exponent)
        next_item_model = cast(NextItemModel, model)
        self._states = compiled(next_item_model.states, trainer)
        self._item_vectors = next_item_model.item_vectors

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

    def retriever(self) -> InnerProductRetriever:
        """What serves the model as it is now."""
        return InnerProductRetriever(cast(NextItemModel, self.model), self.popularity)
