"""The learner's towers as a retriever: top items of the whole catalogue for requests with a history."""

from __future__ import annotations

import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.nn.top_k import top_k_inner_product, top_k_scores
from recascade_cs3.learner import OnlineLearner


class CS3Retriever:
    """Recommends by the towers' score, with the tables as the stream left them.

    Item vectors are computed at the first request and kept: make a new retriever after further learning.

    Args:
        learner: at the end of its stream.
        items: size I of the catalogue.
    """

    def __init__(self, learner: OnlineLearner, items: int) -> None:
        self.learner = learner
        self.items = items
        self._item_vectors: Tensor | None = None

    @torch.inference_mode()
    def retrieve(
        self, context: Context, k: int, *, exclude_seen: bool = False, candidates: Tensor | None = None
    ) -> TopK:
        """The k best items of each request; see ``recascade.contracts.retriever.Retriever``."""
        backbone = self.learner.module.backbone
        if self._item_vectors is None:
            rows = torch.arange(self.items)
            self._item_vectors = backbone.item_vectors(rows, self.learner.tables.item_inputs(rows))
        users = backbone.user_vectors(context, self.learner.tables.user_inputs(context.users))
        seen = context if exclude_seen else None
        if backbone.single_inner_product:
            return top_k_inner_product(users, self._item_vectors, k, seen=seen, candidates=candidates)
        scores = backbone.scores(users, self._item_vectors)
        return top_k_scores(scores, k, seen=seen, candidates=candidates)
