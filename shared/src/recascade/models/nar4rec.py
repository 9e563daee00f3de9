"""A generator that fills all slots at once, in the manner of NAR4Rec (Ren et al., KDD 2024, arXiv 2402.06871)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import PersonalCandidates, UserInput
from recascade.nn.dropout import dropout_add
from recascade.nn.feed_forward import FeedForward
from recascade.nn.list_encoder import ListEncoder, masked_attention
from recascade.nn.list_order import commit_greedily
from recascade.nn.multi_head import MultiHeadProjections


class NAR4Rec(nn.Module):
    """Slots read the candidates by cross-attention, and match each of them by inner product: one pass, no order between
    slots.

    The paper's are the matching of candidate and slot vectors and the one pass. Left out are its evaluator of whole
    lists and contrastive decoding. Two slots may want one candidate: the earlier slot gets it, the later one its next
    best (our choice).

    Args:
        schema: sizes of the lists.
        dimension: width d.
        blocks: blocks of the candidates' encoder.
        heads: attention heads.
        dropout: rate inside.
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
        self.rate = dropout
        self.candidates = PersonalCandidates(schema, dimension, embedding_dimension, user, item_identity=item_identity)
        self.positions = nn.Parameter(torch.empty(schema.candidates, dimension))
        self.slots = nn.Parameter(torch.empty(schema.candidates, dimension))
        for codes in (self.positions, self.slots):
            nn.init.normal_(codes, std=0.02)
        self.encoder = ListEncoder(blocks, dimension, heads, dropout=dropout)
        self.norm = nn.LayerNorm(dimension)
        self.attention = MultiHeadProjections(dimension, heads)
        self.feed_forward = FeedForward(dimension, 2 * dimension, dropout)
        self.match = nn.Linear(dimension, dimension)

    def slot_logits(self, batch: RerankingBatch, count: int) -> Tensor:
        """float ``[B, min(count, n), n]``, finite; what stands in padding means nothing."""
        entries = self.candidates(batch)
        places = entries.shape[1]
        encoded = self.encoder(entries + self.positions[:places], batch.candidate_mask)
        rate = self.rate if self.training else 0.0
        slots = self.slots[: min(count, places)].expand(len(entries), -1, -1)
        keys, values = self.attention.keys_values(encoded)
        queries = self.attention.queries(self.norm(slots))
        attended = masked_attention(queries, keys, values, batch.candidate_mask, dropout=rate)
        slots = self.feed_forward(dropout_add(self.attention.join(attended), slots, rate))
        logits: Tensor = self.match(slots) @ encoded.transpose(1, 2) * encoded.shape[2] ** -0.5
        return logits

    def slot_log_shares(self, batch: RerankingBatch, prefix: Tensor) -> Tensor:
        """float ``[B, m, n]``; of the prefix only its length is read."""
        logits = self.slot_logits(batch, prefix.shape[1])
        return logits.masked_fill(~batch.candidate_mask[:, None], -torch.inf).log_softmax(2)

    def generate(self, batch: RerankingBatch, count: int) -> Tensor:
        """int64 ``[B, count]``."""
        order = commit_greedily(self.slot_logits(batch, count), batch.candidate_mask)
        return nn.functional.pad(order, (0, count - order.shape[1]), value=-1)
