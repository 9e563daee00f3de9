"""Batches of candidate lists as a re-ranker reads them: the request's user, the candidates, their labels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class RerankingSchema:
    """The sizes that a re-ranker's tables are built for.

    Attributes:
        item_count: size I of the item vocabulary; 0 where candidates have features only.
        field_sizes: S numbers; codes of an item's categorical field s are 0…field_sizes[s]-1, 0 for unknown.
        feature_count: F, numeric features of a candidate.
        profile_sizes: U numbers; codes of the user's profile field u are 0…profile_sizes[u]-1, 0 for unknown.
        candidates: most candidates of a list.
        history: most events of a history.
    """

    item_count: int
    field_sizes: tuple[int, ...]
    feature_count: int
    profile_sizes: tuple[int, ...]
    candidates: int
    history: int


@dataclass(frozen=True)
class RerankingBatch:
    """B lists, padded, because candidate lists are short: n candidates of the longest, T events of the longest history.

    Candidates stand in the order of the earlier stage, so place i is the initial rank. Real entries come first in every
    row, padding behind them.

    Attributes:
        lists: int64 ``[B]``, rows of the ``RerankingLists``; -1 for a live request.
        candidate_items: int64 ``[B, n]``, index in the item vocabulary; -1 for unknown and padding.
        candidate_fields: int64 ``[B, n, S]``, categorical fields; 0 for unknown and padding.
        candidate_features: float32 ``[B, n, F]``, standardised on the training lists; 0 where missing and in padding.
        candidate_mask: bool ``[B, n]``, True for a real candidate.
        initial_scores: float32 ``[B, n]``, of the earlier stage, standardised within the list (mean 0, deviation 1);
            0 where it gave none and in padding.
        history_items: int64 ``[B, T]``, oldest first; -1 for unknown and padding.
        history_fields: int64 ``[B, T, S]``.
        history_features: float32 ``[B, T, F]``; 0 for features that only candidates have.
        history_ages: float32 ``[B, T]``, log2(1 + minutes before the request); 0 where times are unknown.
        history_mask: bool ``[B, T]``, True for a real event.
        profile: int64 ``[B, U]``, codes of the user's fields; 0 for unknown.
        labels: float32 ``[B, n]``, 0 or 1 for clicks, or a grade; 0 in padding and for live requests.
    """

    lists: Tensor
    candidate_items: Tensor
    candidate_fields: Tensor
    candidate_features: Tensor
    candidate_mask: Tensor
    initial_scores: Tensor
    history_items: Tensor
    history_fields: Tensor
    history_features: Tensor
    history_ages: Tensor
    history_mask: Tensor
    profile: Tensor
    labels: Tensor

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.lists)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.lists.device

    @property
    def lengths(self) -> Tensor:
        """int64 ``[B]``, candidates per list."""
        return self.candidate_mask.sum(1)

    @property
    def event_count(self) -> int:
        """Places for candidates and events, padding included: what a step computes on."""
        return self.candidate_mask.numel() + self.history_mask.numel()

    @property
    def target_count(self) -> int:
        """B lists are learned from."""
        return self.batch_size

    def without_labels(self) -> RerankingBatch:
        """The same lists as a live request brings them: labels are 0."""
        return replace(self, labels=torch.zeros_like(self.labels))

    def take(self, rows: Tensor) -> RerankingBatch:
        """The given lists (int64 ``[R]``), in that order, padded as before."""
        return RerankingBatch(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> RerankingBatch:
        """The same batch on another device."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return RerankingBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in tensors))
