"""Streams and learners for the tests of CS3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from recascade.data.event_batch import EventBatch
from recascade_cs3.config import CS3Config
from recascade_cs3.learner import OnlineLearner

Batches = list[EventBatch]


def events(count: int, users: int = 30, items: int = 20, seed: int = 0, batch: int = 32) -> Batches:
    """Events whose labels follow latent tastes, ten seconds apart; identifiers repeat within batches."""
    random = np.random.default_rng(seed)
    tastes, kinds = random.normal(size=(users, 3)), random.normal(size=(items, 3))
    who, what = random.integers(0, users, count), random.integers(0, items, count)
    labels = (random.random(count) < 1 / (1 + np.exp(-1.5 * (tastes[who] * kinds[what]).sum(1)))).astype(np.float32)
    times = 1_000 + 10 * np.arange(count)
    return [
        EventBatch(
            start,
            min(start + batch, count),
            np.arange(start, min(start + batch, count)),
            *(array[start : start + batch] for array in (who, what, times, labels, times)),
        )
        for start in range(0, count, batch)
    ]


def config(*mechanisms: str, backbone: str = "dssm", user_identity: bool = True) -> CS3Config:
    """Small towers with these mechanisms on."""
    settings = CS3Config(batch=32)
    for name in ("cas", "cts", "cms"):
        getattr(settings, name).enabled = name in mechanisms
    settings.backbone = replace(
        settings.backbone, name=backbone, embedding_dimension=8, hidden=[16], dimension=8, user_identity=user_identity
    )
    settings.ranker = replace(settings.ranker, embedding_dimension=8, hidden=16, width=6, history=4)
    return settings


def learner(settings: CS3Config, seed: int = 0, delay_batches: int = 0) -> OnlineLearner:
    return OnlineLearner(settings, seed=seed, delay_batches=delay_batches)


def predictions(online: OnlineLearner, batches: Sequence[EventBatch]) -> np.ndarray:
    """What was predicted for each event before anything was learnt from it, ``[N]``."""
    return np.concatenate([online.tick(batch).probabilities for batch in batches])


def delayed(batches: Batches, seconds: int) -> Batches:
    return [replace(batch, label_times=batch.timestamps + seconds) for batch in batches]


def with_labels(batches: Batches, change: Callable[[np.ndarray], np.ndarray]) -> Batches:
    """The same events with other labels: ``change`` maps the labels of the whole stream."""
    labels = change(np.concatenate([batch.labels for batch in batches])).astype(np.float32)
    return [replace(batch, labels=labels[batch.offset : batch.next_offset]) for batch in batches]
