"""Supervised training of generators: the codes of the next item, with the true codes before each of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemBatch
from recascade.models.code_generator import CodeGenerator
from recascade.models.generative_retriever import GenerativeRetriever, Sharing
from recascade.nn.losses import full_softmax
from recascade.training.compilation import compiled
from recascade.training.config import TrainerConfig
from recascade.training.retrieval_module import RetrievalModule


class GenerativeModule(RetrievalModule):
    """Minimises the negative log-probability of the next item's id, and measures lists of items on validation users.

    Args:
        model: the generator.
        data: the split; its validation part is measured, its training part gives the popularity of items.
        trainer: learning rate, monitor and so on.
        widths: of the beams in validation.
        sharing: see ``GenerativeRetriever``.
        exclude_seen: validate as the evaluation will, with or without the items of the user's own history.
    """

    model: CodeGenerator

    def __init__(
        self,
        model: CodeGenerator,
        data: EncodedSplit,
        trainer: TrainerConfig,
        widths: Sequence[int],
        *,
        sharing: Sharing = "popularity",
        exclude_seen: bool = False,
    ) -> None:
        super().__init__(model, data, trainer, exclude_seen=exclude_seen)
        self.widths = tuple(widths)
        self.sharing = sharing
        self._target_states = compiled(model.target_states, trainer)

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        """Mean over the batch's targets of the sum over levels of -log p(code)."""
        codes = self.model.history.item_codes.index_select(0, batch.targets)
        states = self._target_states(batch.context, batch.positions, codes, batch.owners)
        # Mixed precision gives half-precision states, but a sum over a level's codes needs single precision.
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        levels = [
            full_softmax(states[:, level].contiguous(), self.model.output_vectors(level), codes[:, level])
            for level in range(len(self.model.sizes))
        ]
        return torch.stack(levels).sum()

    def retriever(self) -> GenerativeRetriever:
        """What serves the model as it is now."""
        return GenerativeRetriever(
            self.model, self.model.history.item_codes, self.popularity, self.widths, sharing=self.sharing
        )
