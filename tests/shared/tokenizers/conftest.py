"""Vectors in clusters, a small catalogue, and every quantiser small enough to fit in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recascade.contracts.tokenizer import Tokenizer
from recascade.tokenizers.product_codes import ProductCodes
from recascade.tokenizers.residual_kmeans import ResidualKMeans
from recascade.tokenizers.residual_vq import ResidualVQ
from recascade.tokenizers.rq_vae import RQVAE

QUANTISERS: dict[str, Callable[[int], Tokenizer]] = {
    "residual-k-means": lambda seed: ResidualKMeans([16, 8, 4], seed=seed),
    "balanced": lambda seed: ResidualKMeans([16, 8, 4], balanced=True, seed=seed),
    "rq-vae": lambda seed: RQVAE([16, 8, 4], latent=4, hidden=[32], steps=150, batch=64, learning_rate=0.01, seed=seed),
    "residual-vq": lambda seed: ResidualVQ([16, 8, 4], steps=60, batch=64, seed=seed),
    "product-codes": lambda seed: ProductCodes([8, 8, 4, 4], rotations=3, seed=seed),
}


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    """float32 ``[400, 8]`` in 20 clusters."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((20, 8)) * 3
    return (centres[generator.integers(20, size=400)] + generator.standard_normal((400, 8))).astype(np.float32)


@pytest.fixture(params=list(QUANTISERS))
def quantiser(request: pytest.FixtureRequest) -> Callable[[int], Tokenizer]:
    """Seed → a quantiser that is not fitted yet."""
    return QUANTISERS[request.param]


@pytest.fixture
def catalogue() -> pl.DataFrame:
    """Items of two kinds, one without any content."""
    return pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d", "e", "f"],
            "title": ["red lipstick", "dark red lipstick", "garden hose", "long garden hose", None, "red garden"],
            "categories": [["make-up"], ["make-up"], ["garden"], ["garden", "tools"], None, ["tools"]],
            "brand": ["Rouge", "Rouge", "Verde", "Verde", None, "Rouge"],
        }
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A canonical data set of 30 items in three topics that users keep to, with texts."""
    generator = np.random.default_rng(3)
    topics = ["tea", "bike", "lamp"]
    items = [f"i{number:02}" for number in range(30)]
    words = ["small", "large", "blue", "old", "new", "soft"]
    texts = [f"{topics[n % 3]} {words[n % 6]} {words[(n // 5) % 6]}" for n in range(30)]
    users = np.repeat(np.arange(40), 8)
    chosen = (generator.integers(10, size=len(users)) * 3 + users % 3) % 30
    folder = tmp_path / "shop"
    folder.mkdir()
    pl.DataFrame({"item_id": items, "text": texts, "brand": [f"b{n % 4}" for n in range(30)]}).write_parquet(
        folder / "items.parquet"
    )
    pl.DataFrame(
        {
            "user_id": [f"u{user:02}" for user in users],
            "item_id": [items[item] for item in chosen],
            "timestamp": 1_500_000_000 + np.arange(len(users)) * 1000,
        }
    ).write_parquet(folder / "interactions.parquet")
    return folder
