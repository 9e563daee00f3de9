from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.contracts.tokenizer import Tokenizer
from recascade.errors import ConfigurationError, DataError
from recascade.tokenizers.balanced_assignment import balanced_assignment
from recascade.tokenizers.config import ClusteringConfig, GradientConfig, TokenizerConfig
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.tokenizers.kmeans import fit_centroids, means, nearest, squared_distances
from recascade.tokenizers.metrics import reconstruction_error
from recascade.tokenizers.product_codes import ProductCodes
from recascade.tokenizers.quantisers import QUANTISERS, make_quantiser
from recascade.tokenizers.residual_kmeans import ResidualKMeans
from recascade.tokenizers.residual_vq import ResidualVQ
from recascade.tokenizers.rq_vae import RQVAE

Make = Callable[[int], Tokenizer]


def test_codes_are_within_the_sizes(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    codes = tokenizer.fit(vectors)
    assert codes.dtype == np.int64
    assert codes.shape == (400, len(tokenizer.sizes))
    assert (codes >= 0).all()
    assert (codes.max(axis=0) < tokenizer.sizes).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_narrowing_levels_and_a_hashed_one_tell_more_items_apart(seed: int) -> None:
    """The order that GR4AD's table 3 reports: uniform sizes, multi-resolution, with a hash of business fields."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((40, 8)) * 3
    many = (centres[random.integers(40, size=2000)] + random.standard_normal((2000, 8))).astype(np.float32)
    uniform = ResidualKMeans([16, 16, 16], seed=seed).fit(many)
    narrowing = ResidualKMeans([64, 16, 4], balanced=True, seed=seed).fit(many)
    content = ResidualKMeans([64, 16], balanced=True, seed=seed).fit(many)
    names = pl.DataFrame({"item_id": [f"ad {number}" for number in range(2000)]})
    hashed = np.column_stack([content, HashedLevel(4, ("item_id",), 0).codes(names)])
    counts = [len(np.unique(codes, axis=0)) for codes in (uniform, narrowing, hashed)]
    assert counts[0] < counts[1] < counts[2]


def test_encoding_the_fitted_items_reproduces_their_codes(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    codes = tokenizer.fit(vectors)
    if getattr(tokenizer, "balanced", False):
        assert 0 < (codes != tokenizer.encode(vectors)).any(axis=1).mean() < 1
    else:
        assert np.array_equal(codes, tokenizer.encode(vectors))


def test_other_items_of_a_batch_do_not_matter(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    tokenizer.fit(vectors)
    codes = tokenizer.encode(vectors)
    assert np.array_equal(tokenizer.encode(vectors[7:9]), codes[7:9])
    assert np.array_equal(tokenizer.encode(vectors[::-1]), codes[::-1])
    assert tokenizer.encode(vectors[:0]).shape == (0, len(tokenizer.sizes))


def test_the_seed_decides(quantiser: Make, vectors: np.ndarray) -> None:
    first, second, other = (quantiser(seed).fit(vectors) for seed in (0, 0, 1))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_fitting_leaves_the_vectors_and_the_global_seed_alone(quantiser: Make, vectors: np.ndarray) -> None:
    before, state = vectors.copy(), torch.random.get_rng_state()
    quantiser(0).fit(vectors)
    assert np.array_equal(vectors, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_codes_explain_most_of_the_vectors(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    codes = tokenizer.fit(vectors)
    assert tokenizer.decode(codes).dtype == np.float32
    assert reconstruction_error(vectors, tokenizer.decode(codes)) < 0.5


def test_arrays_are_all_there_is(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    tokenizer.fit(vectors)
    arrays = tokenizer.arrays()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    copy = type(tokenizer).from_arrays({name: array.copy() for name, array in arrays.items()})
    assert copy.sizes == tokenizer.sizes
    codes = tokenizer.encode(vectors)
    assert np.array_equal(copy.encode(vectors), codes)
    assert np.array_equal(copy.decode(codes), tokenizer.decode(codes))


def test_the_code_is_the_nearest_of_the_last_level(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    tokenizer.fit(vectors)
    codes = tokenizer.encode(vectors)
    distances = tokenizer.last_level_distances(vectors, codes)
    assert distances.shape == (400, tokenizer.sizes[-1])
    assert np.array_equal(distances.argmin(axis=1), codes[:, -1])


@pytest.mark.parametrize("name", ["residual-k-means", "balanced", "residual-vq"])
def test_vector_is_the_sum_of_its_codes_and_the_remainder(name: str, vectors: np.ndarray) -> None:
    from_name: dict[str, Tokenizer] = {
        "residual-k-means": ResidualKMeans([16, 8, 4]),
        "balanced": ResidualKMeans([16, 8, 4], balanced=True),
        "residual-vq": ResidualVQ([16, 8, 4], steps=20),
    }
    tokenizer = from_name[name]
    tokenizer.fit(vectors)
    codes = tokenizer.encode(vectors)
    books = [tokenizer.arrays()[f"codebook-{level}"] for level in (1, 2, 3)]
    remainder, errors = vectors.copy(), [np.square(vectors).sum()]
    for level, book in enumerate(books):
        distances = np.square(remainder[:, None] - book[None]).sum(axis=2)
        assert np.allclose(distances.min(axis=1), distances[np.arange(400), codes[:, level]], rtol=1e-4, atol=1e-4)
        remainder = remainder - book[codes[:, level]]
        errors.append(np.square(remainder).sum())
    assert np.allclose(tokenizer.decode(codes) + remainder, vectors, atol=1e-5)
    assert errors == sorted(errors, reverse=True)


def test_no_code_of_a_balanced_level_is_overfull(vectors: np.ndarray) -> None:
    skewed = np.concatenate([vectors, np.tile(vectors[:1], (300, 1)) + 1e-3 * vectors[:300]])
    tokenizer = ResidualKMeans([16, 8], balanced=True, slack=1.1)
    codes = tokenizer.fit(skewed)
    for level, size in enumerate(tokenizer.sizes):
        assert np.bincount(codes[:, level]).max() <= np.ceil(1.1 * len(skewed) / size)
    plain = ResidualKMeans([16, 8]).fit(skewed)
    assert np.bincount(plain[:, 0]).max() > np.ceil(1.1 * len(skewed) / 16)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 1000))
@settings(max_examples=60)
def test_balanced_assignment_places_everyone_within_the_room(points: int, clusters: int, spare: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Coarse values: many ties.
    values = torch.randint(0, 3, (points, 2), generator=generator).float()
    centroids = torch.randint(0, 3, (clusters, 2), generator=generator).float()
    capacity = -(-points // clusters) + spare
    assignment = balanced_assignment(values, centroids, capacity)
    counts = torch.bincount(assignment, minlength=clusters)
    assert assignment.min() >= 0
    assert counts.max() <= capacity
    # Whoever is not at the nearest centroid was refused there: it is full.
    distances = squared_distances(values, centroids)
    moved = distances[torch.arange(points), assignment] > distances.min(dim=1).values
    assert (counts[distances.argmin(dim=1)[moved]] == capacity).all()


def test_a_full_centroid_keeps_the_nearest_of_those_who_ask() -> None:
    points = torch.tensor([[2.0], [0.0], [1.0], [9.0]])
    centroids = torch.tensor([[0.0], [10.0]])
    assert balanced_assignment(points, centroids, 2).tolist() == [1, 0, 0, 1]


def test_balanced_assignment_without_scarcity_is_the_nearest(vectors: np.ndarray) -> None:
    points = torch.from_numpy(vectors)
    assert torch.equal(balanced_assignment(points, points[:10], 400), nearest(points, points[:10])[0])


def test_nearest_agrees_with_all_distances(vectors: np.ndarray) -> None:
    points = torch.from_numpy(vectors)
    centroids = torch.randn(700, 8, generator=torch.Generator().manual_seed(0))
    index, distances = nearest(points, centroids)
    table = (points[:, None] - centroids[None]).square().sum(dim=2)
    assert torch.equal(index, table.argmin(dim=1))
    assert torch.allclose(distances, table.min(dim=1).values, atol=1e-4)
    assert torch.allclose(squared_distances(points, centroids), table, atol=1e-4)


def test_lloyd_ends_where_nothing_can_be_moved(vectors: np.ndarray) -> None:
    points = torch.from_numpy(vectors)
    centroids = fit_centroids(
        points, 20, iterations=200, sample_per_cluster=1000, generator=torch.Generator().manual_seed(0)
    )
    assignment, distances = nearest(points, centroids)
    moved, counts = means(points, assignment, centroids)
    assert torch.allclose(moved, centroids, atol=1e-5)
    assert counts.min() > 0
    assert distances.mean() < 30


def test_fewer_distinct_vectors_than_codes_is_no_error() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    tokenizer = ResidualKMeans([8, 2])
    codes = tokenizer.fit(vectors)
    assert len(np.unique(codes, axis=0)) == 3
    assert np.allclose(tokenizer.decode(codes), vectors, atol=1e-6)


def test_rotation_of_product_codes_is_orthogonal_and_helps(vectors: np.ndarray) -> None:
    mixed = vectors @ np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0].astype(np.float32)
    errors = {}
    for rotations in (0, 15):
        tokenizer = ProductCodes([8, 8], rotations=rotations)
        codes = tokenizer.fit(mixed)
        rotation = tokenizer.arrays()["rotation"]
        assert np.allclose(rotation @ rotation.T, np.eye(8), atol=1e-5)
        errors[rotations] = reconstruction_error(mixed, tokenizer.decode(codes))
    assert errors[15] < errors[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda steps: RQVAE([8, 8], latent=4, hidden=[16], steps=steps, batch=128),
        lambda steps: ResidualVQ([8, 8], steps=steps, batch=128, learning_rate=0.01),
    ],
)
def test_training_lowers_the_error(make: Callable[[int], Tokenizer], vectors: np.ndarray) -> None:
    errors = []
    for steps in (1, 300):
        tokenizer = make(steps)
        errors.append(reconstruction_error(vectors, tokenizer.decode(tokenizer.fit(vectors))))
    assert errors[1] < errors[0]


def test_scale_of_the_vectors_does_not_matter_to_learned_quantisers(vectors: np.ndarray) -> None:
    for make in (lambda: RQVAE([8], steps=20, hidden=[8], latent=4), lambda: ResidualVQ([8], steps=20)):
        small, large = make(), make()
        assert np.mean(small.fit(vectors / 64) == large.fit(vectors * 64)) > 0.99


def test_unusable_vectors_are_refused_with_a_sentence(quantiser: Make, vectors: np.ndarray) -> None:
    tokenizer = quantiser(0)
    broken = vectors.copy()
    broken[4, 2] = np.nan
    with pytest.raises(DataError, match=r"1 of 400 item vectors .* first in row 5"):
        tokenizer.fit(broken)
    with pytest.raises(DataError, match=r"shape \[8\]"):
        tokenizer.fit(vectors[0])
    with pytest.raises(ConfigurationError, match=r"gives level 1 .* only 3 items"):
        tokenizer.fit(vectors[:3])
    tokenizer.fit(vectors)
    with pytest.raises(DataError, match="7 numbers each, but the codebooks were fitted on 8"):
        tokenizer.encode(vectors[:, :7])


def test_vectors_that_cannot_be_cut_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="8 numbers into 3 equal parts"):
        ProductCodes([4, 4, 4]).fit(vectors)


@pytest.mark.parametrize("name", list(QUANTISERS))
def test_configuration_reaches_the_quantiser(name: str, vectors: np.ndarray) -> None:
    config = TokenizerConfig(name=name, sizes=[8, 4], gradient=GradientConfig(steps=3, hidden=[8], latent=4))
    config.check()
    tokenizer = make_quantiser(config, seed=5)
    assert tokenizer.sizes == ((8,) if name == "ua-sid" else (8, 4))
    tokenizer.fit(vectors)
    if isinstance(tokenizer, ResidualKMeans):
        assert tokenizer.balanced == (name == "ua-sid")
    if isinstance(tokenizer, RQVAE):
        assert tokenizer.arrays()["encoder.0.weight"].shape == (8, 8)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (TokenizerConfig(name="rqvae"), "tokenizer.name is 'rqvae'. Did you mean 'rq-vae'"),
        (TokenizerConfig(sizes=[8, 0]), "tokenizer.sizes is 0"),
        (TokenizerConfig(name="ua-sid", sizes=[8]), "ua-sid needs two"),
        (TokenizerConfig(name="ua-sid", hash_keys=[]), "hash_keys is empty"),
        (TokenizerConfig(name="rq-vae", clustering=ClusteringConfig(balanced=True)), "rq-vae is never balanced"),
        (TokenizerConfig(clustering=ClusteringConfig(slack=0.5)), "tokenizer.clustering.slack is 0.5"),
        (TokenizerConfig(gradient=GradientConfig(learning_rate=0)), "learning_rate is 0; it must be above 0"),
    ],
)
def test_impossible_configurations_are_refused(config: TokenizerConfig, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.check()
    assert sentence in str(caught.value)
