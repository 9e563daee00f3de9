"""Training of the ranker: the loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recascade.data.encoded import EncodedSplit
from recascade.training.compilation import compiled
from recascade.training.config import TrainerConfig
from recascade.training.negatives import NegativeSampler
from recascade.training.retrieval_module import RetrievalModule
from recascade_relaygr.config import RelayGRConfig
from recascade_relaygr.negatives import draw_groups
from recascade_relaygr.ranker.hstu_ranker import HSTURanker
from recascade_relaygr.ranking_data import RankingBatch
from recascade_relaygr.shortlist_retriever import ShortlistRetriever


class RankingModule(RetrievalModule):
    """Sampled softmax of a target among its negatives, corrected for their chances to be drawn; validated by full
    ranking behind the shortlist.

    Args:
        model: the ranker.
        settings: of the method.
        data: the split.
        trainer: learning rate, monitor and so on.
        exclude_seen: validate as the evaluation will.
    """

    model: HSTURanker

    def __init__(
        self,
        model: HSTURanker,
        settings: RelayGRConfig,
        data: EncodedSplit,
        trainer: TrainerConfig,
        *,
        exclude_seen: bool = False,
    ) -> None:
        super().__init__(model, data, trainer, exclude_seen=exclude_seen)
        self.settings = settings
        self._logits = compiled(model.logits, trainer)
        self.negatives = NegativeSampler(torch.from_numpy(data.item_counts), settings.candidates.popularity)

    def training_step(self, batch: RankingBatch, batch_idx: int) -> Tensor:
        """Mean loss over the groups."""
        groups, correction = draw_groups(batch, self.settings.candidates, self.negatives, self.model.items)
        logits = self._logits(batch.context, groups).float().sub(correction).flatten(0, 1)
        return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))

    def retriever(self) -> ShortlistRetriever:
        """The ranker behind its shortlist, as it is now."""
        return ShortlistRetriever(self.model, self.data.item_counts, self.settings.candidates)
