from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recascade.errors import ConfigurationError, DataError, MissingDependencyError
from recascade.tokenizers.config import ContentConfig
from recascade.tokenizers.content import content_of
from recascade.tokenizers.text_encoder import TextEncoder, joined_text
from recascade.tokenizers.truncated_svd import right_singular_vectors


def cosine(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    return np.asarray(unit @ unit.T)


def test_items_alike_in_words_are_near(catalogue: pl.DataFrame) -> None:
    near = cosine(TextEncoder.fit(catalogue, [], 3).encode(catalogue))
    assert near[0, 1] > near[0, 2]
    assert near[2, 3] > near[1, 3]


def test_full_rank_vectors_keep_the_cosines_of_the_weighted_terms(catalogue: pl.DataFrame) -> None:
    vectors = TextEncoder.fit(catalogue, ["title"], 100).encode(catalogue)
    # By hand: six items; "red" and "garden" in three of them, "lipstick" and "hose" in two, the others in one.
    three, two = np.log(7 / 4) + 1, np.log(7 / 3) + 1
    weights = np.array(
        [[three, two, 0, 0], [three, two, 0, 0], [0, 0, three, two], [0, 0, three, two], [0] * 4, [three, 0, three, 0]]
    )
    assert np.allclose(cosine(vectors), cosine(weights), atol=1e-5)


def test_item_vectors_do_not_depend_on_the_batch(catalogue: pl.DataFrame) -> None:
    encoder = TextEncoder.fit(catalogue, [], 4)
    vectors = encoder.encode(catalogue)
    assert np.allclose(encoder.encode(catalogue[2:4]), vectors[2:4], atol=1e-6)
    assert np.allclose(encoder.encode(catalogue.reverse()), vectors[::-1], atol=1e-6)


def test_a_saved_encoder_serves_new_items(catalogue: pl.DataFrame, tmp_path: Path) -> None:
    encoder = TextEncoder.fit(catalogue, [], 4)
    encoder.save(tmp_path / "encoder.parquet")
    loaded = TextEncoder.load(tmp_path / "encoder.parquet")
    new = catalogue[:1].with_columns(pl.lit("new").alias("item_id"), pl.lit("RED Lipstick!").alias("title"))
    assert np.array_equal(loaded.encode(new), encoder.encode(new))
    assert np.allclose(loaded.encode(new), encoder.encode(catalogue)[:1], atol=1e-6)
    with pytest.raises(DataError, match="no column 'brand'"):
        loaded.encode(new.drop("brand"))
    catalogue.write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="holds no text encoder"):
        TextEncoder.load(tmp_path / "other.parquet")


def test_the_strongest_directions_are_those_of_the_full_decomposition() -> None:
    generator = np.random.default_rng(0)
    dense = generator.standard_normal((60, 40)) * np.arange(40, 0, -1) * (generator.random((60, 40)) < 0.3)
    found = right_singular_vectors(sparse.csr_matrix(dense.astype(np.float32)), 5, seed=1)
    exact = np.linalg.svd(dense)[2][:5].T
    assert np.allclose(np.abs((found * exact).sum(axis=0)), 1, atol=1e-3)
    assert np.allclose(found.T @ found, np.eye(5), atol=1e-5)
    assert right_singular_vectors(sparse.csr_matrix(dense[:3].astype(np.float32)), 9, seed=1).shape == (40, 3)


def test_items_without_content_get_the_mean_and_are_counted(catalogue: pl.DataFrame) -> None:
    content = content_of(catalogue, catalogue["item_id"], ContentConfig(dimension=3))
    assert content.unknown.tolist() == [False] * 4 + [True, False]
    assert np.allclose(content.vectors[4], np.delete(content.vectors, 4, axis=0).mean(axis=0))
    with pytest.raises(DataError, match="1 of 6 items have no content, first 'e'"):
        content_of(catalogue, catalogue["item_id"], ContentConfig(missing="error"))


def test_category_alone_is_content(catalogue: pl.DataFrame) -> None:
    untitled = catalogue.with_columns(pl.when(pl.col("item_id") != "b").then("title").alias("title"))
    content = content_of(untitled, untitled["item_id"], ContentConfig(dimension=3))
    assert content.unknown.tolist() == [False] * 4 + [True, False]
    assert cosine(content.vectors)[0, 1] > 0.5


def test_unusable_columns_are_named(catalogue: pl.DataFrame) -> None:
    with pytest.raises(ConfigurationError, match=r"names 'tittle', .* Did you mean 'title'"):
        TextEncoder.fit(catalogue, ["tittle"], 2)
    with pytest.raises(DataError, match="none of the columns title, text"):
        TextEncoder.fit(catalogue.select("item_id"), [], 2)
    with pytest.raises(DataError, match="No two items share a word"):
        TextEncoder.fit(catalogue[[0, 2]].select("item_id", "title"), [], 2)


def test_columns_as_one_text(catalogue: pl.DataFrame) -> None:
    texts = joined_text(catalogue, [])
    assert texts[3] == "long garden hose. garden, tools. Verde"
    assert texts[4] == ""


def test_given_vectors_are_aligned_by_item(catalogue: pl.DataFrame, tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float64).reshape(6, 2) + 1
    order = catalogue["item_id"].reverse()
    np.save(tmp_path / "v.npy", rows)
    table = pl.DataFrame({"item_id": [*order, "stranger"], "vector": [*rows.tolist(), [9.0, 9.0]]})
    table.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "lists.parquet")
    arrays = table.with_columns(pl.col("vector").cast(pl.Array(pl.Float32, 2)))
    arrays.write_parquet(tmp_path / "arrays.parquet")
    for name in ("v.npy", "lists.parquet", "arrays.parquet"):
        config = ContentConfig(source=str(tmp_path / name))
        content = content_of(catalogue, order, config)
        assert np.array_equal(content.vectors, rows[::-1])
        assert content.encoder is None
        assert not content.unknown.any()


def test_items_without_a_given_vector_get_the_mean(catalogue: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": ["a", "b"], "vector": [[1.0, 0.0], [0.0, 1.0]]}).write_parquet(path)
    content = content_of(catalogue, catalogue["item_id"], ContentConfig(source=str(path)))
    assert content.vectors.tolist() == [[1, 0], [0, 1]] + [[0.5, 0.5]] * 4


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"item_id": ["a", "b"], "v": [[1.0, float("nan")], [1.0, 2.0]]}, "1 of 2 .* NaN or infinity, .* item 'a'"),
        ({"item_id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}, "differ in length: 1 .*, 2 for item 'b'"),
        ({"item_id": ["a", "a"], "v": [[1.0], [2.0]]}, "two vectors of item 'a'"),
        ({"item_id": ["a"], "v": [["x"]]}, "must be lists of numbers"),
        ({"item_id": ["a"], "v": [3.0]}, "must have two columns"),
        ({"item": ["a"], "v": [[3.0]]}, "must have two columns"),
        ({"item_id": ["zzz"], "v": [[3.0]]}, "6 of 6 items have no content"),
    ],
)
def test_unusable_tables_of_vectors_are_refused(
    table: dict[str, list[object]], sentence: str, catalogue: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "v.parquet"
    pl.DataFrame(table).write_parquet(path)
    with pytest.raises(DataError, match=sentence):
        content_of(catalogue, catalogue["item_id"], ContentConfig(source=str(path)))


def test_unusable_arrays_are_refused(catalogue: pl.DataFrame, tmp_path: Path) -> None:
    def refused(name: str, sentence: str) -> None:
        with pytest.raises((DataError, ConfigurationError), match=sentence):
            content_of(catalogue, catalogue["item_id"], ContentConfig(source=str(tmp_path / name)))

    refused("v.npy", "There is no file")
    refused("v.csv", "must be text, sentence-transformers, or the path")
    np.save(tmp_path / "short.npy", np.ones((5, 2)))
    refused("short.npy", "5 rows, but items.parquet has 6")
    np.save(tmp_path / "flat.npy", np.ones(6))
    refused("flat.npy", "two dimensions")
    np.save(tmp_path / "objects.npy", np.array([{}] * 6), allow_pickle=True)
    refused("objects.npy", "not a complete .npy file")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:50])
    refused("cut.npy", "not a complete .npy file")


def test_missing_library_names_the_command(catalogue: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python does for a library that is not installed.
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'recascade-shared\[text\]'"):
        content_of(catalogue, catalogue["item_id"], ContentConfig(source="sentence-transformers"))
