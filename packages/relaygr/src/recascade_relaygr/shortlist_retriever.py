"""A ranker behind a simple first stage: how a ranking method takes part in a benchmark that ranks the whole
catalogue."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.models.evaluation_mode import evaluation_mode
from recascade.models.personal_frequency import PersonalFrequency
from recascade_relaygr.config import CandidatesConfig
from recascade_relaygr.ranker.hstu_ranker import HSTURanker


class ShortlistRetriever:
    """The user's own items by frequency, then popular ones, as many as the shortlist has, in the order of the ranker.

    An item that is not on the shortlist cannot be recommended: its target counts as missed.

    Args:
        ranker: scores the shortlist.
        counts: int64 ``[I]``, training events per item.
        settings: length of the shortlist.
    """

    def __init__(self, ranker: HSTURanker, counts: NDArray[np.int64], settings: CandidatesConfig) -> None:
        self.ranker = ranker
        self.length = settings.shortlist or len(counts)
        self.first_stage = PersonalFrequency(counts, settings.decay)

    @property
    def device(self) -> torch.device:
        """Where the ranker lies, and wants its requests."""
        return self.ranker.item_embedding.device

    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """See ``recascade.contracts.retriever.Retriever``."""
        length = max(self.length, k)
        shortlist = self.first_stage.retrieve(context, length, exclude_seen=exclude_seen, candidates=candidates).items
        with evaluation_mode(self.ranker):
            scores = self.ranker.score(context.last(self.ranker.max_length), shortlist.clamp(min=0))
        scores = scores.masked_fill(shortlist < 0, -torch.inf)
        best = scores.topk(min(k, shortlist.shape[1]), dim=1)
        items = shortlist.gather(1, best.indices).masked_fill(best.values.isneginf(), -1)
        return TopK(items, best.values)
