"""SetRank (Pang et al., SIGIR 2020, arXiv 1912.05891): scores that do not depend on the order of the input."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import PersonalCandidates, UserInput
from recascade.nn.list_encoder import masked_attention
from recascade.nn.multi_head import MultiHeadProjections


class AttentionBlock(nn.Module):
    """The paper's multi-head attention block: ``h = norm(x + attention(x, y, y))``, ``norm(h + rFF(h))``.

    Args:
        dimension: width d.
        heads: attention heads.
    """

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiHeadProjections(dimension, heads)
        self.norm = nn.LayerNorm(dimension)
        self.row_wise = nn.Sequential(nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension))
        self.last_norm = nn.LayerNorm(dimension)

    def forward(self, queries: Tensor, entries: Tensor, visible: Tensor) -> Tensor:
        """``[B, m, d]`` of queries ``[B, m, d]`` that see the visible (bool ``[B, n]``) of entries ``[B, n, d]``."""
        keys, values = self.attention.keys_values(entries)
        attended = masked_attention(self.attention.queries(queries), keys, values, visible)
        stream = self.norm(queries + self.attention.join(attended))
        return cast(Tensor, self.last_norm(stream + self.row_wise(stream)))


class SetRank(nn.Module):
    """Blocks of attention among the candidates, directly or through a few learned inducing points, then a score each.

    Candidates carry no code of their initial rank (the paper's plain model); what the earlier stage thought of them
    reaches the model as a score.

    Args:
        schema: sizes of the lists.
        dimension: width d.
        blocks: attention blocks; the paper has 6.
        heads: attention heads.
        inducing: inducing points, 20 in the paper (its IMSAB); 0 for full attention (its MSAB).
        dropout: rate on the candidates.
        embedding_dimension: width of each embedding.
        user: see ``PersonalCandidates``.
        item_identity: see ``ListInputs``.
    """

    def __init__(
        self,
        schema: RerankingSchema,
        *,
        dimension: int = 64,
        blocks: int = 2,
        heads: int = 2,
        inducing: int = 20,
        dropout: float = 0.1,
        embedding_dimension: int = 16,
        user: UserInput = "concatenated",
        item_identity: bool = True,
    ) -> None:
        super().__init__()
        self.candidates = PersonalCandidates(schema, dimension, embedding_dimension, user, item_identity=item_identity)
        self.dropout = nn.Dropout(dropout)
        self.inducing = nn.Parameter(torch.empty(blocks, inducing, dimension))
        nn.init.normal_(self.inducing, std=0.1)
        self.gathering = nn.ModuleList(AttentionBlock(dimension, heads) for _ in range(blocks if inducing else 0))
        self.blocks = nn.ModuleList(AttentionBlock(dimension, heads) for _ in range(blocks))
        self.output = nn.Linear(dimension, 1)

    def list_scores(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n]``."""
        entries, mask = self.dropout(self.candidates(batch)), batch.candidate_mask
        for number, block in enumerate(self.blocks):
            seen, visible = entries, mask
            if self.gathering:
                points = self.inducing[number].expand(len(entries), -1, -1)
                seen = self.gathering[number](points, entries, mask)
                visible = mask.new_ones(seen.shape[:2])
            entries = block(entries, seen, visible)
        scores: Tensor = self.output(entries)[..., 0]
        return scores
