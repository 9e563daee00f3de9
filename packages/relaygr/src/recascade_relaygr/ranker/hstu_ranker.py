"""The generative ranker: an HSTU trunk over the history, and candidates that read all of it.

Token order and visibility (paper: the decomposition into long-term prefix, short-term events and candidates; the mask
is inferred, and causal throughout the history)::

                  sees   history before it   itself   other candidates
    event t              yes                 yes      -
    candidate            all of it           yes      no

By induction over layers, the states of an event depend on nothing after it, so that a prefix may be run alone and ahead
of time: ``score(history, items) = score_on(prefill(prefix), history, items)`` in exact arithmetic. There are no user
tokens, and one cross feature: how often the user had the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.nn.dropout import dropout
from recascade.nn.packed import PackedLayout
from recascade_relaygr.ranker.candidate_groups import CandidateGroups, attend_in_groups
from recascade_relaygr.ranker.layer import RankingLayer
from recascade_relaygr.ranker.repetitions import BUCKETS, buckets, repetitions, repetitions_in_groups

_LOG_BUCKET = 0.301
# Scores of candidates that are computed at a time where many requests come at once.
_SCORES_AT_ONCE = 1 << 23


class HSTURanker(nn.Module):
    """A ``PrefixRanker``.

    Args:
        items: size I of the catalogue.
        dimension: width d.
        blocks: layers.
        heads: attention heads.
        max_length: the most events of a history.
        dropout: rate on the input and in the layers.
        time_buckets: see ``RankingLayer``; give 0 for data without times.
        normaliser: constant that divides what attention gathers; 64 (our choice).
        repetitions: tell candidates how often they stand in the history.
        initial_deviation: of the embeddings; 0.02.
    """

    def __init__(
        self,
        items: int,
        dimension: int = 64,
        blocks: int = 2,
        heads: int = 2,
        max_length: int = 1024,
        dropout: float = 0.1,
        *,
        time_buckets: int = 64,
        normaliser: float = 64.0,
        repetitions: bool = True,
        initial_deviation: float = 0.02,
    ) -> None:
        super().__init__()
        self.items = items
        self.max_length = max_length
        self.dropout = dropout
        self.time_buckets = time_buckets
        self.scale = dimension**0.5
        # The last row is for items that training never saw.
        self.item_embedding = nn.Parameter(torch.empty(items + 1, dimension))
        nn.init.normal_(self.item_embedding, std=initial_deviation)
        self.candidate = nn.Parameter(torch.zeros(dimension))
        self.repetitions = nn.Parameter(torch.zeros(BUCKETS, dimension)) if repetitions else None
        self.layers = nn.ModuleList(
            RankingLayer(dimension, heads, dropout, max_length, normaliser, time_buckets) for _ in range(blocks)
        )
        self.head = nn.Sequential(
            nn.LayerNorm(dimension), nn.Linear(dimension, dimension), nn.SiLU(), nn.Linear(dimension, 1)
        )

    @property
    def state_shape(self) -> tuple[int, int]:
        """Layers and width."""
        return len(self.layers), self._layers[0].state_width

    @torch.inference_mode()
    def score(self, context: Context, items: Tensor) -> Tensor:
        """float32 ``[B, k]``; see ``recascade.contracts.ranker.Ranker``."""
        if context.batch_size == 1:
            return self.score_on((), context, items)
        context = context.last(self.max_length)
        longest = max(int(context.lengths.max()), 1)
        step = max(_SCORES_AT_ONCE // (longest * items.shape[1]), 1)
        parts = []
        for start in range(0, context.batch_size, step):
            part = context.between(start, min(start + step, context.batch_size))
            groups = CandidateGroups(part.lengths[:, None], self._now(part)[:, None], items[start : start + step, None])
            parts.append(self.logits(part, groups)[:, 0])
        return _at_least_single(torch.cat(parts))

    @torch.inference_mode()
    def prefill(self, history: Context, states: Sequence[Tensor] = ()) -> Tensor:
        """``[layers, n - m, width]``; see ``recascade.contracts.ranker.PrefixRanker``."""
        past = sum(piece.shape[1] for piece in states)
        tokens = self._events(history.items[past:])
        found = []
        *lower, last = self._layers
        for number, layer in enumerate(lower):
            projections = layer.project(tokens)
            found.append(projections.state)
            tokens = layer.read(tokens, projections, [piece[number] for piece in states])
        # Of the last layer nobody reads more than keys and values.
        return torch.stack([*found, last.states(tokens)])

    @torch.inference_mode()
    def score_on(self, states: Sequence[Tensor], history: Context, items: Tensor) -> Tensor:
        """float32 ``[1, k]``; see ``recascade.contracts.ranker.PrefixRanker``."""
        if not states:
            history = history.last(self.max_length)
        pieces = [*states, self.prefill(history, states)] if history.items.numel() else []
        positions = torch.arange(history.items.numel(), device=history.items.device)
        distances = len(positions) - positions
        ages = self._ages(self._now(history) - history.timestamps)
        tokens = self._candidates(items[0])
        if self.repetitions is not None:
            tokens = tokens + self.repetitions[buckets(repetitions(history.items, items[0]))]
        for number, layer in enumerate(self._layers):
            tokens = layer.judge(tokens, [piece[number] for piece in pieces], layer.history_bias(distances, ages))
        return _at_least_single(cast(Tensor, self.head(tokens)).squeeze(1)[None])

    def logits(self, context: Context, groups: CandidateGroups) -> Tensor:
        """``[B, P, G]`` scores of groups of candidates, each group at its own place of its request's history.

        Args:
            context: B requests, none longer than ``max_length``.
            groups: the candidates.
        """
        layout = PackedLayout.of(context.offsets)
        events = dropout(self._events(context.items), self.dropout if self.training else 0.0)
        longest = max(layout.longest, 1)
        times = _padded(context.timestamps, layout, longest)
        positions = torch.arange(longest, device=times.device)
        distances = groups.seen[..., None] - positions
        ages = self._ages(groups.times[..., None] - times[:, None])
        tokens = self._candidates(groups.items)
        if self.repetitions is not None:
            items = _padded(context.items, layout, longest)
            tokens = tokens + self.repetitions[buckets(repetitions_in_groups(items, groups.items, distances > 0))]
        for number, layer in enumerate(self._layers):
            projections = layer.project(events)
            states = _padded(projections.state, layout, longest)
            tokens = attend_in_groups(layer, tokens, states, layer.history_bias(distances, ages), distances > 0)
            if number + 1 < len(self.layers):
                events = layer.read_packed(events, projections, layout)
        return cast(Tensor, self.head(tokens)).squeeze(-1)

    @property
    def _layers(self) -> list[RankingLayer]:
        return [cast(RankingLayer, layer) for layer in self.layers]

    def _events(self, items: Tensor) -> Tensor:
        known = items.where(items >= 0, self.items)
        events: Tensor = self.item_embedding.index_select(0, known) * self.scale
        return events

    def _candidates(self, items: Tensor) -> Tensor:
        return self._events(items.flatten()).view(*items.shape, -1) + self.candidate

    def _ages(self, seconds: Tensor) -> Tensor | None:
        """``floor(ln(max(1, seconds)) / 0.301)``, as HSTU's release cuts time differences."""
        if not self.time_buckets:
            return None
        logarithms = seconds.float().clamp(min=1.0).log().mul(1.0 / _LOG_BUCKET)
        return logarithms.long().clamp(max=self.time_buckets - 1)

    def _now(self, context: Context) -> Tensor:
        """int64 ``[B]``; where the request's time is unknown, that of its newest event."""
        if context.now is not None:
            return context.now
        newest = torch.zeros_like(context.lengths)
        known = context.lengths > 0
        newest[known] = context.timestamps[context.offsets[1:][known] - 1]
        return newest


def _at_least_single(scores: Tensor) -> Tensor:
    """float32, or float64 of a model in double precision."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _padded(packed: Tensor, layout: PackedLayout, longest: int) -> Tensor:
    """``[T, ...]`` events as ``[B, longest, ...]``, 0 behind the end of each history."""
    padded = packed.new_zeros(len(layout.lengths), longest, *packed.shape[1:])
    padded[layout.rows, layout.positions] = packed
    return padded
