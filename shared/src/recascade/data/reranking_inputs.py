"""From requests and candidates to what a re-ranker reads; the same code for training lists and for live requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.reranking_batch import RerankingBatch, RerankingSchema
from recascade.errors import DataError

# Features of a candidate that compare it with the user's history: how often it stands there, and how recently.
HISTORY_FEATURES = 2


@dataclass(frozen=True)
class RerankingInputs:
    """What is known of items and users when training ends; it turns requests into batches.

    A candidate's features are, side by side: those of its item, two that compare it with the history (where items are
    known), and those that came with the list. The comparison is our choice: log(1 + events of the item in the history),
    and 1 / (1 + log2(1 + minutes since the last one)), both 0 for an item that is not there.

    Attributes:
        item_fields: int32 ``[I, S]``, categorical fields of the items, 0 for unknown.
        field_sizes: S numbers, see ``RerankingSchema``.
        item_features: float32 ``[I, F1]``, standardised, finite.
        user_profiles: int32 ``[N, U]``, categorical fields of the users, 0 for unknown.
        profile_sizes: U numbers.
        feature_mean: float32 ``[F2]``, of the features that come with a list, over the training lists.
        feature_deviation: float32 ``[F2]``, above 0.
        candidates: most candidates of a list.
        history: most events of a history that are read, the latest.
    """

    item_fields: NDArray[np.int32]
    field_sizes: tuple[int, ...]
    item_features: NDArray[np.float32]
    user_profiles: NDArray[np.int32]
    profile_sizes: tuple[int, ...]
    feature_mean: NDArray[np.float32]
    feature_deviation: NDArray[np.float32]
    candidates: int
    history: int

    @property
    def schema(self) -> RerankingSchema:
        """Sizes for a re-ranker's tables."""
        compared = HISTORY_FEATURES if len(self.item_fields) else 0
        return RerankingSchema(
            item_count=len(self.item_fields),
            field_sizes=self.field_sizes,
            feature_count=self.item_features.shape[1] + compared + len(self.feature_mean),
            profile_sizes=self.profile_sizes,
            candidates=self.candidates,
            history=self.history,
        )

    def batch(
        self, context: Context, items: Tensor, scores: Tensor | None = None, features: Tensor | None = None
    ) -> RerankingBatch:
        """The batch of these requests, on the device of ``items``; labels are 0.

        Args:
            context: B requests with their histories; ``users`` of -1 or beyond the table are unknown.
            items: int64 ``[B, n]``, candidates in the order of the earlier stage; -1 for an item that training never
                saw.
            scores: float ``[B, n]`` of the earlier stage; -inf where a row has no candidate any more. None for a stage
                that gives none, whose rows are all full.
            features: float ``[B, n, F2]`` that come with the candidates, as given (not standardised); NaN or infinite
                where unknown. None where F2 is 0.

        Raises:
            DataError: the shapes do not fit each other or the training lists.
        """
        self._check(context, items, scores, features)
        device = items.device
        mask = torch.ones_like(items, dtype=torch.bool) if scores is None else ~torch.isneginf(scores)
        known = items.masked_fill(~mask | (items >= len(self.item_fields)), -1)
        history_items, history_ages, history_mask = padded_histories(context, self.history)
        history_items = history_items.masked_fill(history_items >= len(self.item_fields), -1)
        parts = [_rows(self.item_features, known)]
        absent = [_rows(self.item_features, history_items)]
        if len(self.item_fields):
            parts.append(_compared(known, history_items, history_ages))
        if len(self.feature_mean):
            given = torch.zeros(*items.shape, 0, device=device) if features is None else features
            parts.append(self._standardised(given).masked_fill(~mask[..., None], 0.0))
        width = sum(part.shape[-1] for part in parts) - absent[0].shape[-1]
        absent.append(torch.zeros(*history_items.shape, width, device=device))
        known_users = context.users.masked_fill(context.users >= len(self.user_profiles), -1)
        return RerankingBatch(
            lists=torch.full((len(items),), -1, device=device),
            candidate_items=known,
            candidate_fields=_rows(self.item_fields, known).long(),
            candidate_features=torch.cat(parts, -1),
            candidate_mask=mask,
            initial_scores=_standardised_within(scores, mask),
            history_items=history_items,
            history_fields=_rows(self.item_fields, history_items).long(),
            history_features=torch.cat(absent, -1),
            history_ages=history_ages,
            history_mask=history_mask,
            profile=_rows(self.user_profiles, known_users).long(),
            labels=torch.zeros(items.shape, device=device),
        )

    def _standardised(self, features: Tensor) -> Tensor:
        mean = torch.from_numpy(self.feature_mean).to(features.device)
        deviation = torch.from_numpy(self.feature_deviation).to(features.device)
        scaled = (features.float() - mean) / deviation
        return torch.where(scaled.isfinite(), scaled, 0.0)

    def _check(self, context: Context, items: Tensor, scores: Tensor | None, features: Tensor | None) -> None:
        if items.dim() != 2 or items.shape[0] != context.batch_size or items.shape[1] < 1:
            raise DataError(
                f"Candidates of shape {list(items.shape)} came with {context.batch_size} requests; give one row of at "
                "least one candidate per request."
            )
        if scores is not None and scores.shape != items.shape:
            raise DataError(f"There are scores {list(scores.shape)} for candidates {list(items.shape)}; give one each.")
        if items.shape[1] > self.candidates:
            raise DataError(
                f"A list has {items.shape[1]} candidates, but the re-ranker was trained on at most {self.candidates}; "
                "send it the best of them only."
            )
        expected = (*items.shape, len(self.feature_mean))
        if (0 if features is None else features.shape[-1]) != expected[-1] or (
            features is not None and features.shape != expected
        ):
            given = "none" if features is None else str(list(features.shape))
            raise DataError(f"The candidates need features of shape {list(expected)}, but {given} were given.")


def padded_histories(context: Context, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The latest events of each request as rows: items int64 ``[B, T]`` (-1 in padding), ages float32 ``[B, T]``
    (log2(1 + minutes before the request), 0 in padding), mask bool ``[B, T]``; oldest first, padding last, T >= 1.

    Without a time of the request, ages are counted from its latest event.
    """
    recent = context.last(length)
    lengths, rows, device = recent.lengths, recent.rows, recent.items.device
    width = max(1, int(lengths.max())) if len(lengths) else 1
    places = torch.arange(len(rows), device=device) - recent.offsets[rows]
    mask = torch.arange(width, device=device) < lengths[:, None]
    items = torch.full(mask.shape, -1, device=device)
    items[rows, places] = recent.items
    times = torch.zeros(mask.shape, dtype=torch.int64, device=device)
    times[rows, places] = recent.timestamps
    now = times.amax(1) if recent.now is None else recent.now
    minutes = (now[:, None] - times).clamp(min=0) / 60
    return items, torch.log2(1 + minutes).float().masked_fill(~mask, 0.0), mask


def _rows(table: NDArray[np.int32] | NDArray[np.float32], indices: Tensor) -> Tensor:
    """Rows ``[..., C]`` of a table, zeros for -1."""
    if not table.size:
        return torch.zeros(
            *indices.shape, table.shape[1], dtype=torch.from_numpy(table[:0]).dtype, device=indices.device
        )
    chosen = table[indices.clamp(min=0).cpu().numpy()]
    return torch.from_numpy(chosen).to(indices.device) * (indices >= 0)[..., None]


def _compared(items: Tensor, history_items: Tensor, history_ages: Tensor) -> Tensor:
    """float32 ``[B, n, 2]``: how often a candidate stands in the history, and how recently."""
    same = (items[:, :, None] == history_items[:, None, :]) & (items[:, :, None] >= 0)
    nearness = torch.where(same, 1 / (1 + history_ages[:, None, :]), 0.0)
    return torch.stack([torch.log1p(same.sum(2).float()), nearness.amax(2)], -1)


def _standardised_within(scores: Tensor | None, mask: Tensor) -> Tensor:
    """float32 ``[B, n]``: mean 0, deviation 1 over each list's finite scores; 0 elsewhere and where all are equal."""
    if scores is None:
        return torch.zeros(mask.shape, device=mask.device)
    finite = mask & scores.isfinite()
    values = torch.where(finite, scores, 0.0).double()
    counts = finite.sum(1, keepdim=True).clamp(min=1)
    centred = (values - values.sum(1, keepdim=True) / counts).masked_fill(~finite, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / counts).sqrt()
    # Equal scores differ by rounding only; dividing by that would make noise of size 1.
    flat = deviation <= 1e-9 * values.abs().amax(1, keepdim=True)
    return torch.where(flat, 0.0, centred / deviation.masked_fill(flat, 1.0)).float()
