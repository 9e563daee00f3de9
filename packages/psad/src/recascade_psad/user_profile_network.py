"""The User Profile Network: candidates as this user sees them, before they meet each other.

The paper says that it injects the user's intent and models the dynamics of interest; summaries report personalised
gates and an adaptive position encoding. Every formula here is inferred.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.nn.list_encoder import ListBlock, masked_mean
from recascade.nn.masked_softmax import masked_softmax
from recascade_psad.config import PSADConfig
from recascade_psad.list_features import ListFeatures
from recascade_psad.positions import PersonalGate, PositionEncoding

AGES = 32
"""Rows of the table of ages: log2 of minutes, whole numbers; the last one begins after four thousand years."""


@dataclass(frozen=True)
class UserView:
    """B requests as the User Profile Network gives them on.

    Attributes:
        intent: ``[B, d]``, u.
        candidates: ``[B, n, d]``, x̃ + p̃ⁱⁿ; zeros in padding.
        mask: bool ``[B, n]``, True for a real candidate.
    """

    intent: Tensor
    candidates: Tensor
    mask: Tensor


class UserProfileNetwork(nn.Module):
    """Intent, dynamics, gate and places; each of the last three can be switched off.

    Args:
        config: sizes and switches.
        schema: of the lists.
    """

    def __init__(self, config: PSADConfig, schema: RerankingSchema) -> None:
        super().__init__()
        self.parts = config.profile
        width = config.dimension
        self.features = ListFeatures(schema, width, config.embedding, item_identity=config.item_identity)
        self.ages = nn.Embedding(AGES, width)
        nn.init.normal_(self.ages.weight, std=width**-0.5)
        self.history_blocks = nn.ModuleList(
            ListBlock(width, config.heads, config.hidden, config.dropout) for _ in range(config.profile.history_blocks)
        )
        self.intent = nn.Sequential(
            nn.Linear(width + self.features.profile_width, width), nn.GELU(), nn.Linear(width, width)
        )
        if self.parts.dynamics:
            self.query = nn.Linear(width, width, bias=False)
            self.decay = nn.Linear(width, 1, bias=False)
        self.gate = PersonalGate((width, width, width), width) if self.parts.gate else None
        self.ranks = (
            PositionEncoding(schema.candidates, width, adaptive=self.parts.position)
            if self.parts.initial_rank
            else None
        )
        self.score = nn.Linear(1, width, bias=False) if self.parts.initial_score else None

    def forward(self, batch: RerankingBatch) -> UserView:
        """One pass over history and candidates; labels are not read."""
        history = self._history(batch)
        intent = self._intent(batch, history)
        candidates = self.features.candidates(batch)
        recalled = self._recalled(batch, candidates, intent, history)
        if self.gate is not None:
            # The gate weighs the candidate's coordinates; what they are is not its business.
            candidates = candidates * self.gate(candidates.detach(), intent[:, None], recalled)
        candidates = candidates + recalled
        if self.score is not None:
            candidates = candidates + self.score(batch.initial_scores[..., None])
        if self.ranks is not None:
            places = torch.arange(candidates.shape[1], device=candidates.device)
            candidates = candidates + self.ranks(intent, places)
        mask = batch.candidate_mask
        return UserView(intent, candidates.masked_fill(~mask[..., None], 0.0), mask)

    def _history(self, batch: RerankingBatch) -> Tensor:
        """``[B, T, d]``: h′, each event knowing its age and the others."""
        ages = batch.history_ages.clamp(0, AGES - 1).long()
        history: Tensor = self.features.history(batch) + self.ages(ages)
        for block in self.history_blocks:
            history = block(history, batch.history_mask)
        return history.masked_fill(~batch.history_mask[..., None], 0.0)

    def _intent(self, batch: RerankingBatch, history: Tensor) -> Tensor:
        """``[B, d]``: u = MLP([mean h′ ‖ profile])."""
        mean = masked_mean(history, batch.history_mask)
        intent: Tensor = self.intent(torch.cat([mean, self.features.profile(batch)], 1))
        return intent

    def _recalled(self, batch: RerankingBatch, candidates: Tensor, intent: Tensor, history: Tensor) -> Tensor:
        """``[B, n, d]``: r, what of the history bears on each candidate; zeros for an empty history::

        a_it = (W x_i) · h′_t / √d - θ_u age_t,    θ_u = softplus(w · u),    r_i = Σ_t softmax_t(a_it) h′_t
        """
        if not self.parts.dynamics:
            return torch.zeros_like(candidates)
        weights = self.query(candidates) @ history.transpose(1, 2) * candidates.shape[-1] ** -0.5
        weights = weights - softplus(self.decay(intent))[..., None] * batch.history_ages[:, None]
        return masked_softmax(weights, batch.history_mask[:, None]) @ history
