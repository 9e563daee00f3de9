"""Small logs of several domains, and settings for the smallest models of Taesar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recascade.data.dataset import Dataset
from recascade.settings import compose_sections
from recascade.training.config import TrainerConfig
from recascade_taesar.config import TaesarConfig

DOMAINS = ("books", "sports", "tools")
TRAINER = TrainerConfig(progress=False, tensorboard=False, accelerator="cpu", log_every=10)
SMALL: dict[str, Any] = {
    "model.regenerator.dimension": 16,
    "model.regenerator.epochs": 3,
    "model.regenerator.patience": 0,
    "model.regenerator.adaptation_epochs": 3,
    "model.regenerator.batch_sequences": 32,
    "model.regenerator.learning_rate": 0.01,
    "model.backbone.dimension": 16,
    "model.backbone.blocks": 1,
}


def mixed_log(destination: Path, *, users: int = 60, items: int = 12, length: int = 14, seed: int = 0) -> Dataset:
    """A log of three domains whose users walk around a ring of items in each."""
    random = np.random.default_rng(seed)
    domains = random.integers(0, len(DOMAINS), (users, length))
    steps = random.integers(0, items, (users, len(DOMAINS), 1)) + np.arange(length)[None, None]
    visits = np.stack([np.cumsum(domains == code, axis=1) for code in range(len(DOMAINS))], axis=2)
    rows = []
    for user in range(users):
        for place in range(length):
            code = int(domains[user, place])
            item = int(steps[user, code, 0] + visits[user, place, code]) % items
            rows.append((f"u{user:03}", f"{DOMAINS[code]}-{item:02}", 1_700_000_000 + 60 * place, place, DOMAINS[code]))
    columns = ("user_id", "item_id", "timestamp", "position", "domain")
    destination.mkdir(parents=True)
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(destination / "interactions.parquet")
    return Dataset.open(destination)


def small_config(**overrides: Any) -> TaesarConfig:
    """The smallest models, with some settings changed (``decoding__js`` for ``model.decoding.js``)."""
    chosen = {"model." + key.replace("__", "."): value for key, value in overrides.items()}
    config: TaesarConfig = compose_sections({"model": TaesarConfig}, SMALL | chosen)["model"]
    return config
