"""The words and categories of items as dense vectors: TF-IDF and a truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recascade.data.features import TEXT_COLUMNS
from recascade.data.schema import explain_read_failure
from recascade.errors import ConfigurationError, DataError, did_you_mean
from recascade.files import write_atomically
from recascade.tokenizers.truncated_svd import right_singular_vectors

DEFAULT_COLUMNS = ("title", "text", "categories", "brand")
# A term of one item says nothing about others.
_LEAST_HOLDERS = 2


class TextEncoder:
    """Latent semantic analysis (Deerwester et al., 1990) of a catalogue, frozen after fitting.

    Term counts are weighted with ln((1 + N) / (1 + items with the term)) + 1, rows are scaled to length 1 and projected
    on the strongest right singular vectors. Texts are cut into lower-case runs of letters and digits; each member of a
    list, and each value of another column, is one term.

    Attributes:
        terms: one row per term: ``column``, ``words`` (whether the column is cut into words), ``term``, ``weight``, and
            ``direction``, its row of the singular vectors.
    """

    def __init__(self, terms: pl.DataFrame) -> None:
        """Take over fitted terms."""
        self.terms = terms

    @classmethod
    def fit(cls, items: pl.DataFrame, columns: Sequence[str], dimension: int, seed: int = 0) -> TextEncoder:
        """Learn terms, weights and directions from N items.

        Args:
            items: one row per item.
            columns: to read; empty for those of title, text, categories and brand that are there.
            dimension: d; fewer where there are fewer items or terms.
            seed: of the decomposition.

        Raises:
            ConfigurationError: a column is unknown.
            DataError: no column can be read, or no term is shared by two items.
        """
        chosen = _chosen_columns(items, columns)
        words = {name: items[name].dtype == pl.String and _is_prose(items[name]) for name in chosen}
        found = _terms(items, words)
        holders = found.group_by("column", "term").agg(pl.col("row").n_unique().alias("holders"))
        kept = holders.filter(pl.col("holders") >= _LEAST_HOLDERS).sort("column", "term")
        if not len(kept):
            raise DataError(
                f"No two items share a word or value in {', '.join(chosen)}, so they cannot be compared by content; "
                "choose other columns with tokenizer.content.columns, or give vectors with tokenizer.content.source."
            )
        terms = kept.select(
            "column",
            pl.col("column").replace_strict(words, return_dtype=pl.Boolean).alias("words"),
            "term",
            ((1 + len(items)) / (1 + pl.col("holders"))).log().add(1).cast(pl.Float32).alias("weight"),
        )
        weighted = _weighted(found, terms, len(items))
        directions = right_singular_vectors(weighted, dimension, seed)
        return cls(terms.with_columns(pl.Series("direction", directions)))

    def encode(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """The vectors of N items, float32 ``[N, d]``; all zero where no known term is there.

        Args:
            items: with the columns that were fitted.

        Raises:
            DataError: a column is missing.
        """
        words = dict(self.terms.select("column", "words").unique().iter_rows())
        missing = [name for name in words if name not in items.columns]
        if missing:
            raise DataError(f"The items have no column {missing[0]!r}, which their vectors are made of.")
        weighted = _weighted(_terms(items, words), self.terms, len(items))
        vectors: NDArray[np.float32] = weighted @ self.terms["direction"].to_numpy()
        return vectors

    def save(self, path: Path) -> None:
        """Write the terms as Parquet, atomically."""
        with write_atomically(path) as temporary:
            self.terms.write_parquet(temporary)

    @classmethod
    def load(cls, path: Path) -> TextEncoder:
        """Read what ``save`` wrote.

        Raises:
            DataError: the file is missing, damaged or another table.
        """
        with explain_read_failure(path):
            terms = pl.read_parquet(path)
        if terms.columns != ["column", "words", "term", "weight", "direction"]:
            raise DataError(f"{path} holds no text encoder; 'recascade tokenize --encoder FILE' writes one.")
        return cls(terms)


def joined_text(items: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """The columns of each item as one text, for encoders of sentences; empty where all are null.

    Args:
        items: N rows.
        columns: as in ``TextEncoder.fit``.
    """
    parts = [
        pl.col(name).cast(pl.List(pl.String)).list.join(", ")
        if isinstance(items[name].dtype, pl.List)
        else pl.col(name).cast(pl.String)
        for name in _chosen_columns(items, columns)
    ]
    return items.select(pl.concat_str(parts, separator=". ", ignore_nulls=True).alias("text"))["text"]


def _chosen_columns(items: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    known = [name for name in items.columns if name != "item_id"]
    for name in columns:
        if name not in known:
            raise ConfigurationError(
                f"tokenizer.content.columns names {name!r}, which items.parquet has not.{did_you_mean(name, known)}"
            )
    chosen = list(columns) or [name for name in DEFAULT_COLUMNS if name in known]
    if not chosen:
        raise DataError(
            "items.parquet has none of the columns title, text, categories and brand; name others with "
            "tokenizer.content.columns, or give vectors with tokenizer.content.source."
        )
    return chosen


def _is_prose(column: pl.Series) -> bool:
    """Titles and texts, and strings of which most rows have one of their own; the others are names to be kept whole."""
    return column.name in TEXT_COLUMNS or 2 * column.n_unique() > len(column)


def _terms(items: pl.DataFrame, words: dict[str, bool]) -> pl.DataFrame:
    """One row per occurrence: ``row`` of the item, ``column``, ``term``."""
    numbered = items.select(pl.int_range(pl.len()).alias("row"), *words)
    parts = []
    for name, is_prose in words.items():
        if is_prose:
            term = pl.col(name).str.to_lowercase().str.extract_all(r"\w+")
        elif isinstance(items[name].dtype, pl.List):
            term = pl.col(name).cast(pl.List(pl.String))
        else:
            term = pl.concat_list(pl.col(name).cast(pl.String))
        occurrences = numbered.select("row", pl.lit(name).alias("column"), term.alias("term")).explode("term")
        parts.append(occurrences.drop_nulls("term"))
    return pl.concat(parts)


def _weighted(found: pl.DataFrame, terms: pl.DataFrame, items: int) -> sparse.csr_matrix:
    """TF-IDF float32 ``[items, terms]`` with rows of length 1 (or 0)."""
    numbered = terms.select("column", "term", "weight", pl.int_range(pl.len()).alias("number"))
    hits = found.join(numbered, on=["column", "term"], maintain_order="left")
    table = sparse.csr_matrix(
        (hits["weight"].to_numpy(), (hits["row"].to_numpy(), hits["number"].to_numpy())), shape=(items, len(terms))
    )
    table.sum_duplicates()
    norms = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
    table.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(table.indptr)).astype(np.float32)
    return table
