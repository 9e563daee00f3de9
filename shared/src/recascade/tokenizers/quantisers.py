"""The quantisers by name."""

from __future__ import annotations

from recascade.contracts.tokenizer import Tokenizer
from recascade.tokenizers.config import TokenizerConfig
from recascade.tokenizers.product_codes import ProductCodes
from recascade.tokenizers.residual_kmeans import ResidualKMeans
from recascade.tokenizers.residual_vq import ResidualVQ
from recascade.tokenizers.rq_vae import RQVAE

QUANTISERS: dict[str, type[Tokenizer]] = {
    "residual-k-means": ResidualKMeans,
    "ua-sid": ResidualKMeans,
    "rq-vae": RQVAE,
    "residual-vq": ResidualVQ,
    "product-codes": ProductCodes,
}


def make_quantiser(config: TokenizerConfig, seed: int) -> Tokenizer:
    """The quantiser that a configuration describes, not fitted yet; of ``ua-sid`` all levels but the hashed one."""
    clustering, gradient = config.clustering, config.gradient
    training = {"steps": gradient.steps, "batch": gradient.batch}
    if config.name == "rq-vae":
        return RQVAE(
            config.levels,
            latent=gradient.latent,
            hidden=gradient.hidden,
            commitment=gradient.commitment,
            learning_rate=gradient.learning_rate,
            seed=seed,
            **training,
        )
    if config.name == "residual-vq":
        return ResidualVQ(config.levels, learning_rate=gradient.learning_rate, seed=seed, **training)
    if config.name == "product-codes":
        return ProductCodes(
            config.levels,
            iterations=clustering.iterations,
            sample_per_cluster=clustering.sample_per_cluster,
            seed=seed,
        )
    return ResidualKMeans(
        config.levels[:-1] if config.name == "ua-sid" else config.levels,
        balanced=config.balanced,
        slack=clustering.slack,
        iterations=clustering.iterations,
        balanced_iterations=clustering.balanced_iterations,
        sample_per_cluster=clustering.sample_per_cluster,
        seed=seed,
    )
