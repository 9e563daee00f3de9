"""What every list model reads: vectors of candidates, history and user, from the same embeddings."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.nn.list_encoder import masked_attention, masked_mean

UserInput = Literal["none", "concatenated", "attended"]


class FieldEmbedding(nn.Module):
    """One vector per value of each categorical field, side by side, from one table.

    Args:
        sizes: of the fields; code 0 is the unknown value.
        dimension: width of each field's vector.
        initial_deviation: standard deviation of the initial vectors (our choice: 0.02).

    Attributes:
        width: of all fields together.
    """

    starts: Tensor

    def __init__(self, sizes: tuple[int, ...], dimension: int, initial_deviation: float = 0.02) -> None:
        super().__init__()
        self.width = len(sizes) * dimension
        starts = np.cumsum([0, *sizes])
        self.register_buffer("starts", torch.from_numpy(starts[:-1].astype(np.int64)), persistent=False)
        self.vectors = nn.Parameter(torch.empty(int(starts[-1]), dimension))
        nn.init.normal_(self.vectors, std=initial_deviation)

    def forward(self, codes: Tensor) -> Tensor:
        """``[..., S · dimension]`` of codes int64 ``[..., S]``."""
        return self.vectors[codes + self.starts].flatten(-2)


class ListVectors(NamedTuple):
    """``candidates`` float ``[B, n, d]``, ``history`` float ``[B, T, d]``, ``profile`` float ``[B, P]``."""

    candidates: Tensor
    history: Tensor
    profile: Tensor


class ListInputs(nn.Module):
    """Vectors of candidates and events by one linear map each of identity, fields and features side by side.

    A candidate also brings the earlier stage's score, and an event its age. The embeddings of both are the same.

    Args:
        schema: sizes of the lists.
        dimension: width d.
        embedding_dimension: width of the embedding of each identity and field; 16 as LibRerank.
        item_identity: give each item a vector of its own beside its fields.

    Attributes:
        profile_width: P, width of the profile's vector; 0 for a schema without profiles.
    """

    def __init__(
        self, schema: RerankingSchema, dimension: int, embedding_dimension: int = 16, *, item_identity: bool = True
    ) -> None:
        super().__init__()
        # Identity is a field like any other, whose code 0 is the unknown item.
        self.reads_identity = item_identity and schema.item_count > 0
        sizes = (schema.item_count + 1, *schema.field_sizes) if self.reads_identity else schema.field_sizes
        self.fields = FieldEmbedding(sizes, embedding_dimension)
        self.profile = FieldEmbedding(schema.profile_sizes, embedding_dimension)
        self.profile_width = self.profile.width
        width = self.fields.width + schema.feature_count + 1
        self.candidate = nn.Linear(width, dimension)
        self.event = nn.Linear(width, dimension)

    def forward(self, batch: RerankingBatch) -> ListVectors:
        """The vectors of a batch; those of padding are finite and mean nothing."""
        candidates = self._read(batch.candidate_items, batch.candidate_fields, batch.candidate_features)
        history = self._read(batch.history_items, batch.history_fields, batch.history_features)
        return ListVectors(
            self.candidate(torch.cat([candidates, batch.initial_scores[..., None]], -1)),
            self.event(torch.cat([history, batch.history_ages[..., None]], -1)),
            self.profile(batch.profile),
        )

    def _read(self, items: Tensor, fields: Tensor, features: Tensor) -> Tensor:
        codes = torch.cat([items[..., None] + 1, fields], -1) if self.reads_identity else fields
        return torch.cat([self.fields(codes), features], -1)


class PersonalCandidates(nn.Module):
    """A candidate's vector with what is known of the user: the "+user" input that all baselines get alike.

    The user is ``u = MLP(mean of the history || profile)``. ``concatenated`` joins it to the candidate, with their
    elementwise product, in one linear map; ``attended`` adds the events that the candidate attends to. Our choice:
    the published models read items only, or a vector that another model made.

    Args:
        schema: sizes of the lists.
        dimension: width d.
        embedding_dimension: see ``ListInputs``.
        user: ``none``, ``concatenated`` or ``attended``.
        item_identity: see ``ListInputs``.
    """

    def __init__(
        self,
        schema: RerankingSchema,
        dimension: int,
        embedding_dimension: int = 16,
        user: UserInput = "concatenated",
        *,
        item_identity: bool = True,
    ) -> None:
        super().__init__()
        self.user_input = user
        self.inputs = ListInputs(schema, dimension, embedding_dimension, item_identity=item_identity)
        if user != "none":
            width = dimension + self.inputs.profile_width
            self.user = nn.Sequential(nn.Linear(width, dimension), nn.GELU(), nn.Linear(dimension, dimension))
            self.join = nn.Linear((3 if user == "concatenated" else 5) * dimension, dimension)

    def forward(self, batch: RerankingBatch) -> Tensor:
        """float ``[B, n, d]``; padding holds finite values that mean nothing."""
        vectors: ListVectors = self.inputs(batch)
        candidates, history, profile = vectors
        if self.user_input == "none":
            return candidates
        user = self.user(torch.cat([masked_mean(history, batch.history_mask), profile], -1))
        user = user[:, None].expand_as(candidates)
        parts = [candidates, user, candidates * user]
        if self.user_input == "attended":
            query, events = candidates[:, :, None], history[:, :, None]
            found = masked_attention(query, events, events, batch.history_mask)[:, :, 0]
            parts += [found, candidates * found]
        joined: Tensor = self.join(torch.cat(parts, -1))
        return joined
