"""What is known of items in words, as sparse vectors whose inner product is a cosine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy import sparse

from recascade.data.encoded import EncodedSplit
from recascade.data.feature_terms import feature_terms
from recascade.errors import DataError


def content_vectors(data: EncodedSplit, texts: Sequence[str | None] | pl.Series | None = None) -> sparse.csr_matrix:
    """TF-IDF of the items' categorical features and, where given, of the words of their texts.

    Each value of a feature is one term of its own; words are lower-case runs of letters and digits. Term counts are
    weighted with ln((1 + I) / (1 + items with the term)) + 1 and rows are scaled to length 1 (Salton and Buckley, 1988,
    with the smoothed logarithm that is usual today).

    Args:
        data: the split; its item features are read.
        texts: a text per item of the vocabulary, in its order, or None.

    Returns:
        float32 ``[I, terms]``; rows of items of which nothing is known are empty.
    """
    items = len(data.items)
    blocks: list[sparse.csr_matrix] = []
    if data.item_features is not None:
        blocks.append(feature_terms(data.item_features))
    if texts is not None:
        blocks.append(_words(texts, items))
    if not blocks:
        return sparse.csr_matrix((items, 0), dtype=np.float32)
    counts = sparse.hstack(blocks, format="csr", dtype=np.float32)
    holders = np.bincount(counts.indices, minlength=counts.shape[1])
    weights = np.log((1 + items) / (1 + holders)) + 1
    counts.data *= weights[counts.indices].astype(np.float32)
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    counts.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(counts.indptr)).astype(np.float32)
    return counts


def _words(texts: Sequence[str | None] | pl.Series, items: int) -> sparse.csr_matrix:
    column = pl.Series("text", texts, dtype=pl.String)
    if len(column) != items:
        raise DataError(
            f"There are {len(column)} texts for {items} items; give one per item, in the vocabulary's order."
        )
    words = (
        pl.DataFrame(
            {"row": pl.int_range(items, eager=True), "word": column.str.to_lowercase().str.extract_all(r"\w+")}
        )
        .explode("word")
        .drop_nulls()
    )
    codes = words["word"].rank("dense").cast(pl.Int64).to_numpy()
    rows = words["row"].to_numpy()
    counts = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, codes)), shape=(items, int(codes.max(initial=0)) + 1)
    )
    counts.sum_duplicates()
    return counts
