"""Training of the ranker: the loss and the steps."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recascade.data.encoded import EncodedSplit
from recascade.training.config import TrainerConfig
from recascade.training.negatives import NegativeSampler
from recascade.training.optimizer import adam
from recascade.training.retrieval_validation import RetrievalValidation
from recascade_relaygr.config import RelayGRConfig
from recascade_relaygr.negatives import draw_groups
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.ranking_data import RankingBatch
from recascade_relaygr.shortlist_retriever import ShortlistRetriever


class RankingModule(L.LightningModule):
    """Sampled softmax of a target among its negatives, corrected for their chances to be drawn; validated by full
    ranking behind the shortlist.

    Args:
        model: the ranker.
        settings: of the method.
        data: the split.
        trainer: learning rate, monitor and so on.
        exclude_seen: validate as the evaluation will.
    """

    def __init__(
        self,
        model: HSTURanker,
        settings: RelayGRConfig,
        data: EncodedSplit,
        trainer: TrainerConfig,
        *,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.data = data
        self.trainer_config = trainer
        self.negatives = NegativeSampler(torch.from_numpy(data.item_counts), settings.candidates.popularity)
        self._validation = RetrievalValidation(data, trainer.monitor, exclude_seen=exclude_seen)

    def training_step(self, batch: RankingBatch, batch_idx: int) -> Tensor:
        """Mean loss over the groups."""
        groups, correction = draw_groups(batch, self.settings.candidates, self.negatives, self.model.items)
        logits = self.model.logits(batch.context, groups).float().sub(correction).flatten(0, 1)
        return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))

    def validation_step(self, rows: Tensor, batch_idx: int) -> None:
        """The monitored metric of each of these rows (int64 ``[B]``) of the validation part."""
        self._validation.measure(self.retriever(), rows, self.device)

    def on_validation_epoch_end(self) -> None:
        """Mean over users, over all ranks."""
        self.log(self.trainer_config.monitor, self._validation.take_mean(self), logger=False)

    def configure_optimizers(self) -> Any:
        """Adam over the model's parameters."""
        return adam(self.model.parameters(), self.trainer_config)

    def retriever(self) -> ShortlistRetriever:
        """The ranker behind its shortlist, as it is now."""
        return ShortlistRetriever(self.model, self.data.item_counts, self.settings.candidates)
