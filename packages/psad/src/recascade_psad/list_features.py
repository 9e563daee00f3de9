"""Candidates, past events and the user as vectors, before anything looks at anything else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.models.list_inputs import FieldEmbedding


class ListFeatures(nn.Module):
    """``x = LayerNorm(W [item ‖ fields ‖ features] + b)`` for candidates and events alike (shared tables: inferred).

    The norm is our choice. What is recalled of the history and the score are added to a candidate's vector, which
    without the norm begins several times shorter than they are: on lists with long histories, what tells candidates
    apart was then learnt epochs later, when training lists were already being learnt by heart.

    Args:
        schema: which tables there are, and how large.
        dimension: width d of the vectors of candidates and events.
        embedding: width of each categorical field's vectors.
        item_identity: give each item a vector of its own beside its fields.
    """

    def __init__(self, schema: RerankingSchema, dimension: int, embedding: int, *, item_identity: bool) -> None:
        super().__init__()
        # Identity is a field like any other, whose code 0 is the unknown item.
        self.reads_identity = item_identity and schema.item_count > 0
        identity = (schema.item_count + 1,) if self.reads_identity else ()
        self.fields = _embedding((*identity, *schema.field_sizes), embedding)
        self.user_fields = _embedding(schema.profile_sizes, embedding)
        self.profile_width = len(schema.profile_sizes) * embedding
        width = self.fields.width if self.fields else 0
        self.projection = nn.Linear(width + schema.feature_count, dimension)
        self.norm = nn.LayerNorm(dimension)

    def candidates(self, batch: RerankingBatch) -> Tensor:
        """``[B, n, d]``, zeros in padding."""
        return self._vectors(
            batch.candidate_items, batch.candidate_fields, batch.candidate_features, batch.candidate_mask
        )

    def history(self, batch: RerankingBatch) -> Tensor:
        """``[B, T, d]``, zeros in padding."""
        return self._vectors(batch.history_items, batch.history_fields, batch.history_features, batch.history_mask)

    def profile(self, batch: RerankingBatch) -> Tensor:
        """``[B, P]``, P of ``profile_width``."""
        if self.user_fields is None:
            return batch.initial_scores.new_zeros(batch.profile.shape[0], 0)
        vectors: Tensor = self.user_fields(batch.profile)
        return vectors

    def _vectors(self, items: Tensor, fields: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        if self.fields is not None:
            codes = torch.cat([items[..., None] + 1, fields], -1) if self.reads_identity else fields
            features = torch.cat([self.fields(codes), features], -1)
        vectors: Tensor = self.norm(self.projection(features))
        return vectors.masked_fill(~mask[..., None], 0.0)


def _embedding(sizes: tuple[int, ...], dimension: int) -> FieldEmbedding | None:
    # An empty table is no use, and cannot be exported.
    return FieldEmbedding(sizes, dimension) if sizes else None
