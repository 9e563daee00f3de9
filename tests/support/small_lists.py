"""Candidate lists drawn at random, and changes to batches that must not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from recascade.data.events import EventSequences, offsets_of
from recascade.data.reranking_batch import RerankingBatch
from recascade.data.reranking_inputs import RerankingInputs
from recascade.data.reranking_lists import RerankingLists


def small_lists(
    count: int = 40,
    *,
    items: int = 50,
    candidates: int = 8,
    list_features: int = 2,
    clicked: str = "some",
    seed: int = 0,
) -> RerankingLists:
    """Lists of 1 to ``candidates`` items for as many users, a third of them unknown or without history.

    Labels follow the items' first feature, so that they can be learned; ``clicked`` may also be ``none`` or ``all``.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(1, candidates + 1, count)
    lengths[0] = candidates
    offsets = offsets_of(lengths)
    chosen = np.concatenate([random.permutation(items)[:length] for length in lengths]).astype(np.int32)
    history_lengths = random.integers(0, 7, count) * (random.random(count) > 0.2)
    events = EventSequences(
        offsets_of(history_lengths),
        random.integers(0, items, history_lengths.sum()).astype(np.int32),
        np.sort(random.integers(0, 10_000, history_lengths.sum())),
        np.zeros(history_lengths.sum(), dtype=np.int32),
    )
    item_features = random.normal(size=(items, 3)).astype(np.float32)
    signal = item_features[chosen, 0]
    labels = {"some": signal > 0.3, "none": np.zeros(len(chosen)), "all": np.ones(len(chosen))}[clicked]
    features = random.normal(3, 2, (len(chosen), list_features)).astype(np.float32)
    return RerankingLists(
        inputs=RerankingInputs(
            item_fields=random.integers(0, 4, (items, 2)).astype(np.int32),
            field_sizes=(4, 4),
            item_features=item_features,
            user_profiles=random.integers(0, 3, (count, 1)).astype(np.int32),
            profile_sizes=(3,),
            feature_mean=np.full(list_features, 3, dtype=np.float32),
            feature_deviation=np.full(list_features, 2, dtype=np.float32),
            candidates=candidates,
            history=5,
        ),
        ids=pl.Series([f"list-{number}" for number in range(count)]),
        users=np.where(random.random(count) < 0.15, -1, np.arange(count)),
        times=np.full(count, 20_000),
        events=events,
        history_ends=events.offsets[1:],
        offsets=offsets,
        items=chosen,
        scores=random.normal(size=len(chosen)).astype(np.float32),
        labels=labels.astype(np.float32),
        features=features,
        parts=(np.arange(count) % 5 // 3 + (np.arange(count) % 5 == 4)).astype(np.int8),
        facts={"initial": "drawn", "lists": {}},
    )


def with_garbage(batch: RerankingBatch) -> RerankingBatch:
    """The same lists with something else in every padded place, and more padding behind."""

    def garble(values: torch.Tensor, mask: torch.Tensor, garbage: float) -> torch.Tensor:
        mask = mask.reshape(*mask.shape, *[1] * (values.dim() - 2))
        return torch.where(mask, values, torch.full_like(values, garbage))

    def longer(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, values[:, :1]], 1)

    candidates, history = batch.candidate_mask, batch.history_mask
    garbled = replace(
        batch,
        candidate_items=garble(batch.candidate_items, candidates, 7),
        candidate_fields=garble(batch.candidate_fields, candidates, 2),
        candidate_features=garble(batch.candidate_features, candidates, 50.0),
        initial_scores=garble(batch.initial_scores, candidates, 99.0),
        history_items=garble(batch.history_items, history, 7),
        history_fields=garble(batch.history_fields, history, 2),
        history_features=garble(batch.history_features, history, -50.0),
        history_ages=garble(batch.history_ages, history, 3.0),
    )
    return replace(
        garbled,
        history_items=longer(garbled.history_items),
        history_fields=longer(garbled.history_fields),
        history_features=longer(garbled.history_features),
        history_ages=longer(garbled.history_ages),
        history_mask=torch.cat([history, torch.zeros_like(history[:, :1])], 1),
    )


def in_order(batch: RerankingBatch, order: torch.Tensor) -> RerankingBatch:
    """The same lists with their candidates in another order, int64 ``[B, n]``."""

    def moved(values: torch.Tensor) -> torch.Tensor:
        index = order.reshape(*order.shape, *[1] * (values.dim() - 2)).expand_as(values)
        return values.gather(1, index)

    names = (
        "candidate_items",
        "candidate_fields",
        "candidate_features",
        "candidate_mask",
        "initial_scores",
        "labels",
    )
    return replace(batch, **{name: moved(getattr(batch, name)) for name in names})
