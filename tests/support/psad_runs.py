"""Small trained runs of PSAD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from psad_models import psad_config

from recascade.contracts.method import RerankingExperiment
from recascade.contracts.reranker import Reranker
from recascade.data.reranking_inputs import RerankingInputs
from recascade.data.reranking_lists import RerankingLists
from recascade.training.config import TrainerConfig
from recascade_psad.fit import fit
from recascade_psad.planted import planted_world
from recascade_psad.planted_lists import planted_lists


def small_lists(lists: int = 200, seed: int = 0) -> RerankingLists:
    """Planted lists of ten candidates."""
    return planted_lists(planted_world(lists, items=200, seed=seed))


def trained(directory: Path, lists: RerankingLists, *, seed: int = 0, epochs: int = 1, **overrides: Any) -> Reranker:
    """What a fit of so many epochs serves; validation chooses nothing."""
    trainer = TrainerConfig(
        max_epochs=epochs,
        learning_rate=3e-3,
        batch_sequences=32,
        validate_every=0,
        monitor="ndcg@5",
        accelerator="cpu",
        tensorboard=False,
        progress=False,
        log_every=1,
    )
    directory.mkdir(parents=True, exist_ok=True)
    return fit(RerankingExperiment(psad_config(**overrides), trainer, lists, seed, directory))


def request_inputs(lists_features: int = 2) -> RerankingInputs:
    """Tables of 40 items and 9 users, with features that come with candidates."""
    random = np.random.default_rng(0)
    return RerankingInputs(
        item_fields=random.integers(0, 5, (40, 2)).astype(np.int32),
        field_sizes=(5, 5),
        item_features=random.normal(size=(40, 3)).astype(np.float32),
        user_profiles=random.integers(0, 4, (9, 1)).astype(np.int32),
        profile_sizes=(4,),
        feature_mean=np.zeros(lists_features, dtype=np.float32),
        feature_deviation=np.ones(lists_features, dtype=np.float32),
        candidates=12,
        history=6,
    )
