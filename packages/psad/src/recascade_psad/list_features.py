"""Candidates, past events and the user as vectors, before anything looks at anything else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema


class ListFeatures(nn.Module):
    """``x = W [item ‖ fields ‖ features] + b`` for candidates and events alike, which share tables and W (inferred).

    Args:
        schema: which tables there are, and how large.
        dimension: width d of the vectors of candidates and events.
        embedding: width of each categorical field's vectors.
    """

    def __init__(self, schema: RerankingSchema, dimension: int, embedding: int) -> None:
        super().__init__()
        # Row 0 is the unknown item's, which stays at zero.
        self.items = nn.Embedding(schema.item_count + 1, embedding, padding_idx=0) if schema.item_count else None
        self.fields = nn.ModuleList(nn.Embedding(size, embedding) for size in schema.field_sizes)
        self.profiles = nn.ModuleList(nn.Embedding(size, embedding) for size in schema.profile_sizes)
        tables = len(self.fields) + (self.items is not None)
        self.projection = nn.Linear(tables * embedding + schema.feature_count, dimension)
        self.profile_width = len(self.profiles) * embedding
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=embedding**-0.5)
                if module.padding_idx is not None:
                    nn.init.zeros_(module.weight[module.padding_idx])

    def candidates(self, batch: RerankingBatch) -> Tensor:
        """``[B, n, d]``, zeros in padding."""
        return self._vectors(
            batch.candidate_items, batch.candidate_fields, batch.candidate_features, batch.candidate_mask
        )

    def history(self, batch: RerankingBatch) -> Tensor:
        """``[B, T, d]``, zeros in padding."""
        return self._vectors(batch.history_items, batch.history_fields, batch.history_features, batch.history_mask)

    def profile(self, batch: RerankingBatch) -> Tensor:
        """``[B, profile_width]``."""
        parts = [table(batch.profile[:, number]) for number, table in enumerate(self.profiles)]
        return torch.cat(parts, 1) if parts else batch.initial_scores.new_zeros(len(batch.profile), 0)

    def _vectors(self, items: Tensor, fields: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        parts = [table(fields[..., number]) for number, table in enumerate(self.fields)]
        if self.items is not None:
            parts.append(self.items(items + 1))
        vectors: Tensor = self.projection(torch.cat([*parts, features], -1))
        return vectors.masked_fill(~mask[..., None], 0.0)
