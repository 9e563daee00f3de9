"""The quantisers by name."""

from __future__ import annotations

from recascade.contracts.tokenizer import Tokenizer
from recascade.tokenizers.config import TokenizerConfig
from recascade.tokenizers.residual_kmeans import ResidualKMeans

QUANTISERS: dict[str, type[Tokenizer]] = {
    "residual-k-means": ResidualKMeans,
    "ua-sid": ResidualKMeans,
}


def make_quantiser(config: TokenizerConfig, seed: int) -> Tokenizer:
    """The quantiser that a configuration describes, not fitted yet; of ``ua-sid`` all levels but the hashed one."""
    clustering = config.clustering
    return ResidualKMeans(
        config.levels[:-1] if config.name == "ua-sid" else config.levels,
        balanced=config.balanced,
        slack=clustering.slack,
        iterations=clustering.iterations,
        balanced_iterations=clustering.balanced_iterations,
        sample_per_cluster=clustering.sample_per_cluster,
        seed=seed,
    )
