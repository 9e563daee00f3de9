"""DLCM, the deep listwise context model (Ai et al., SIGIR 2018, arXiv 1804.05936)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import PersonalCandidates, UserInput


class DLCM(nn.Module):
    """A GRU reads the list from its last candidate to its first; its last state and each output make a score.

    ``score_i = v · (o_i ⊙ tanh(W s + b))``: the paper's local ranking function with a matrix W where the paper has a
    tensor of several (our choice).

    Args:
        schema: sizes of the lists.
        dimension: width of inputs and states.
        dropout: rate on the inputs.
        embedding_dimension: width of each embedding.
        user: see ``PersonalCandidates``; the paper reads features of the candidates only.
        item_identity: see ``ListInputs``.
    """

    def __init__(
        self,
        schema: RerankingSchema,
        *,
        dimension: int = 64,
        dropout: float = 0.1,
        embedding_dimension: int = 16,
        user: UserInput = "concatenated",
        item_identity: bool = True,
    ) -> None:
        super().__init__()
        self.candidates = PersonalCandidates(schema, dimension, embedding_dimension, user, item_identity=item_identity)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.GRU(dimension, dimension, batch_first=True)
        self.context = nn.Linear(dimension, dimension)
        self.output = nn.Linear(dimension, 1)

    def list_scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``."""
        entries = self.dropout(self.candidates(batch))
        # Turned around within each list, not within the padded row: padding must stay behind, where the GRU has
        # already passed every candidate.
        turned = _turned_places(batch)
        outputs, _ = self.encoder(entries.gather(1, turned[..., None].expand_as(entries)))
        last = (batch.lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, outputs.shape[2])
        context = torch.tanh(self.context(outputs.gather(1, last)))
        scores: Tensor = self.output(outputs * context)[..., 0]
        return scores.gather(1, turned)


def _turned_places(batch: RerankingBatch) -> Tensor:
    """int64 ``[B, n]``: place length - 1 - i of each list; padding stays where it is. It is its own inverse."""
    places = torch.arange(batch.candidate_mask.shape[1], device=batch.device)
    turned = batch.lengths[:, None] - 1 - places
    return torch.where(turned >= 0, turned, places)
