from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recascade.data.cluster import ray_cluster
from recascade.errors import ConfigurationError, DataError
from recascade.tokenizers.append_vectors import append_vectors, append_vectors_on_cluster
from recascade.tokenizers.config import ConflictConfig
from recascade.tokenizers.hashed_level import HashedLevel
from recascade.tokenizers.item_tokenizer import ItemTokenizer
from recascade.tokenizers.residual_kmeans import ResidualKMeans
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.semantic_ids_file import save_semantic_ids, signature

OLD, NEW = 200, 130


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(OLD + NEW, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all tests; the functions under test use what is connected."""
    pytest.importorskip("ray", reason="Ray is not installed")
    with ray_cluster(cpus=2):
        yield


def saved_table(folder: Path, vectors: np.ndarray, policy: str, hashed: HashedLevel | None = None) -> Path:
    tokenizer = ItemTokenizer("ua-sid" if hashed else "residual-k-means", ResidualKMeans([8, 4]), hashed=hashed)
    names = [f"old-{number}" for number in range(OLD)]
    ids = SemanticIds.build(names, vectors[:OLD], tokenizer, conflicts=ConflictConfig(policy=policy))
    save_semantic_ids(ids, folder / "ids.parquet")
    return folder / "ids.parquet"


def saved_vectors(folder: Path, vectors: np.ndarray) -> Path:
    names = [f"new-{number}" for number in range(len(vectors))]
    pl.DataFrame({"item_id": names, "vector": vectors.tolist()}).write_parquet(folder / "new.parquet")
    return folder / "new.parquet"


def same_ids(one: SemanticIds, other: SemanticIds) -> None:
    assert one.item_ids == other.item_ids
    assert np.array_equal(one.codes, other.codes)
    assert signature(one) == signature(other)


@pytest.mark.parametrize("policy", ["allow", "digit", "reassign"])
def test_pieces_give_the_codes_of_one_append(tmp_path: Path, vectors: np.ndarray, policy: str) -> None:
    table, new = saved_table(tmp_path, vectors, policy), saved_vectors(tmp_path, vectors[OLD:])
    whole = append_vectors(table, new, piece_vectors=10_000)
    assert len(whole) == OLD + NEW
    same_ids(whole, append_vectors(table, new, piece_vectors=17))


@pytest.mark.parametrize("policy", ["allow", "digit"])
@pytest.mark.parametrize("hashed", [None, HashedLevel(4)], ids=["clustered", "hashed"])
def test_the_cluster_gives_the_same_codes(
    tmp_path: Path, vectors: np.ndarray, cluster: None, policy: str, hashed: HashedLevel | None
) -> None:
    table, new = saved_table(tmp_path, vectors, policy, hashed), saved_vectors(tmp_path, vectors[OLD:])
    same_ids(append_vectors(table, new), append_vectors_on_cluster(table, new, piece_vectors=50))
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_appended_is_refused(tmp_path: Path, vectors: np.ndarray, cluster: None) -> None:
    table = saved_table(tmp_path, vectors, "digit")
    narrow = saved_vectors(tmp_path, vectors[OLD:, :5])
    for append in (append_vectors, append_vectors_on_cluster):
        with pytest.raises(DataError, match="5 numbers each, but the codebooks were fitted on 8"):
            append(table, narrow)
    twice = tmp_path / "twice.parquet"
    pl.DataFrame({"item_id": ["a", "old-7"], "vector": vectors[:2].tolist()}).write_parquet(twice)
    for append in (append_vectors, append_vectors_on_cluster):
        with pytest.raises(DataError, match="Item 'old-7' has a semantic id already"):
            append(table, twice)
    with pytest.raises(ConfigurationError, match="policy=reassign"):
        append_vectors_on_cluster(saved_table(tmp_path, vectors, "reassign"), narrow)
