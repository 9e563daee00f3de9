"""PRM, the personalised re-ranking model (Pei et al., RecSys 2019, arXiv 1904.06813)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import PersonalCandidates, UserInput
from recascade.nn.list_encoder import ListEncoder


class PRM(nn.Module):
    """Candidates with a learned code of their initial rank, transformer blocks, one score each.

    The paper's are the position codes, the encoder and the softmax over the list; its personal vectors come from a
    click model trained before, ours from the history and the profile in the same training. Blocks are pre-norm, our
    choice.

    Args:
        schema: sizes of the lists.
        dimension: width d.
        blocks: transformer blocks.
        heads: attention heads.
        dropout: rate inside the blocks.
        embedding_dimension: width of each embedding.
        user: see ``PersonalCandidates``.
        item_identity: see ``ListInputs``.
    """

    def __init__(
        self,
        schema: RerankingSchema,
        *,
        dimension: int = 64,
        blocks: int = 1,
        heads: int = 2,
        dropout: float = 0.1,
        embedding_dimension: int = 16,
        user: UserInput = "concatenated",
        item_identity: bool = True,
    ) -> None:
        super().__init__()
        self.candidates = PersonalCandidates(schema, dimension, embedding_dimension, user, item_identity=item_identity)
        self.positions = nn.Parameter(torch.empty(schema.candidates, dimension))
        nn.init.normal_(self.positions, std=0.02)
        self.encoder = ListEncoder(blocks, dimension, heads, dropout=dropout)
        self.output = nn.Linear(dimension, 1)

    def list_scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``."""
        entries = self.candidates(batch)
        encoded = self.encoder(entries + self.positions[: entries.shape[1]], batch.candidate_mask)
        scores: Tensor = self.output(encoded)[..., 0]
        return scores
