"""One vector per item of a vocabulary, from what the catalogue or the user says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.schema import check_keys
from recascade.data.split import Split
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError
from recascade.tokenizers.config import ContentConfig
from recascade.tokenizers.given_vectors import given_vectors
from recascade.tokenizers.sentence_vectors import sentence_vectors
from recascade.tokenizers.text_encoder import TextEncoder, joined_text


@dataclass(frozen=True)
class Content:
    """The vectors of I items.

    Attributes:
        vectors: float32 ``[I, d]``, of any length: ``ItemTokenizer`` normalises where that is wanted.
        unknown: bool ``[I]``, the items of which nothing is known; they have the mean vector of the others.
        encoder: makes the vectors of new items, where they come from the catalogue's texts.
    """

    vectors: NDArray[np.float32]
    unknown: NDArray[np.bool_]
    encoder: TextEncoder | None = None


def catalogue(split: Split, vocabulary: Vocabulary) -> pl.DataFrame:
    """The rows of items.parquet in the order of the vocabulary, null where an item has none.

    Items that only held-out events or the catalogue name, and the vocabulary does not, are left out: nothing learned
    from this table knows of them.
    """
    ids = vocabulary.ids.to_frame("item_id").select(pl.col("item_id"))
    items = split.items()
    if items is None:
        return ids
    check_keys(items, "items", split.path / "items.parquet")
    rows = items.filter(pl.col("item_id").is_in(vocabulary.ids.implode())).collect(engine="streaming")
    return ids.join(rows, on="item_id", how="left", maintain_order="left")


def content_of(items: pl.DataFrame, order: pl.Series, config: ContentConfig, seed: int = 0) -> Content:
    """Make the vectors that a configuration describes.

    Args:
        items: I rows, in the order of the vocabulary.
        order: all identifiers of items.parquet in the file's order, which the rows of a ``.npy`` file follow.
        config: where the vectors come from.
        seed: of the decomposition.

    Raises:
        DataError: there is no content, vectors do not fit the items, or an item has none and ``missing`` is ``error``.
        ConfigurationError: a column or source is unknown.
        MissingDependencyError: sentence-transformers is not installed.
    """
    encoder = None
    if config.source == "text":
        encoder = TextEncoder.fit(items, config.columns, config.dimension, seed)
        vectors = encoder.encode(items)
        unknown = np.logical_not(vectors.any(axis=1))
    elif config.source == "sentence-transformers":
        texts = joined_text(items, config.columns)
        vectors = sentence_vectors(texts, config.model)
        unknown = texts.eq("").to_numpy()
    else:
        vectors, unknown = given_vectors(Path(config.source).expanduser(), items["item_id"], order)
    return Content(completed(vectors, unknown, items["item_id"], config), unknown, encoder)


def completed(
    vectors: NDArray[np.float32], unknown: NDArray[np.bool_], item_ids: pl.Series, config: ContentConfig
) -> NDArray[np.float32]:
    """The vectors with the mean of the known ones in the place of the unknown."""
    if unknown.any() and (config.missing == "error" or unknown.all()):
        raise DataError(
            f"{int(unknown.sum()):,} of {len(unknown):,} items have no content, first "
            f"{item_ids[int(unknown.argmax())]!r}; give them a text or vector, or set tokenizer.content.missing=mean "
            "where others have one."
        )
    if unknown.any():
        vectors = vectors.copy()
        vectors[unknown] = vectors[~unknown].mean(axis=0)
    return np.ascontiguousarray(vectors, dtype=np.float32)
