"""Learners of CS3 after some random events, as a service finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from recascade.data.event_batch import EventBatch
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.serving.embedding_store import InProcessStore
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.item_index import FlatIndex
from recascade_cs3.catalogue import Catalogue
from recascade_cs3.checkpoints import Position, save_checkpoint
from recascade_cs3.config import BackboneConfig, CS3Config
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.run_folder import CATALOGUE_FOLDER, write_model
from recascade_cs3.serve import write_cascade_vectors
from recascade_cs3.service import CS3Service
from recascade_cs3.snapshot import Snapshot, take_snapshot

USERS, ITEMS = 40, 60


def settings(*, cas: bool = True, cts: bool = True, cms: bool = True, **backbone: Any) -> CS3Config:
    config = CS3Config(backbone=BackboneConfig(**backbone))
    config.cas.enabled, config.cts.enabled, config.cms.enabled = cas, cts, cms
    config.cas.zero_gate = False
    return config


def events(offset: int, count: int = 64, users: int = USERS, items: int = ITEMS, positive: bool = False) -> EventBatch:
    random = np.random.default_rng(offset)
    times = np.arange(offset, offset + count)
    labels = np.ones(count) if positive else random.random(count) < 0.4
    return EventBatch(
        offset=offset,
        next_offset=offset + count,
        event_ids=times,
        users=random.integers(0, users, count),
        items=random.integers(0, items, count),
        timestamps=times,
        labels=labels.astype(np.float32),
        label_times=times,
    )


def names(kind: str, count: int) -> GrowingVocabulary:
    return GrowingVocabulary([f"{kind}{row}" for row in range(count)], kind=kind)


class Trained:
    """A learner after some events, with its vocabularies and a store of its cascade vectors."""

    def __init__(self, config: CS3Config, seed: int = 0, ticks: int = 5) -> None:
        self.learner = OnlineLearner(config, seed=seed)
        self.users, self.items = names("u", USERS), names("i", ITEMS)
        self.learner.grow(USERS, ITEMS)
        self.offset = 0
        self.learn(ticks)

    def learn(self, ticks: int, **changes: Any) -> None:
        for _ in range(ticks):
            self.learner.tick(events(self.offset, **changes))
            self.offset += 64

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.learner, self.users, self.items, FlatIndex)

    def store(self) -> FallbackStore | None:
        cascade = self.learner.tables.cascade
        if cascade is None:
            return None
        store = FallbackStore(InProcessStore(cascade.users.width))
        write_cascade_vectors(self.learner, self.users, self.items, store)
        return store

    def service(self) -> CS3Service:
        return CS3Service(self.snapshot(), self.store())

    @torch.no_grad()
    def brute_force(self, user: int, k: int) -> tuple[list[str], list[float]]:
        """The training graph's own scores of all items, without bias and scale."""
        module, tables = self.learner.module.eval(), self.learner.tables
        rows, users = torch.arange(ITEMS), torch.full((ITEMS,), user)
        output = module.towers(
            tables.histories.context(users), rows, tables.user_inputs(users), tables.item_inputs(rows)
        )
        best = torch.topk((output.logits - module.bias) / module.log_scale.exp(), k)
        return [f"i{item}" for item in best.indices.tolist()], best.values.tolist()


def write_run(trained: Trained, folder: Path) -> None:
    """What ``recascade cs3 learn`` leaves behind of this learner."""
    if not (folder / CATALOGUE_FOLDER).exists():
        Catalogue([], [], None, None).save(folder / CATALOGUE_FOLDER)
        write_model(folder, trained.learner.config, trained.learner.seed)
    save_checkpoint(folder, trained.learner, Position(trained.offset, {}), trained.users, trained.items)
