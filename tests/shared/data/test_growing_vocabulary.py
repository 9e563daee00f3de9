"""A growing vocabulary numbers by first appearance, whatever the chunks are, and never renumbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.errors import DataError

WORDS = st.lists(st.sampled_from(["a", "b", "", "é", "cc", "a ", "0"]), max_size=30)


@given(words=WORDS, cuts=st.lists(st.integers(0, 30), max_size=5))
def test_rows_do_not_depend_on_the_chunks(words: list[str], cuts: list[int]) -> None:
    whole, pieces = GrowingVocabulary(), GrowingVocabulary()
    rows = whole.encode(pl.Series(words, dtype=pl.String)).tolist()
    edges = [0, *sorted(cuts), len(words)]
    in_pieces = [
        row
        for start, end in pairwise(edges)
        for row in pieces.encode(pl.Series(words[start:end], dtype=pl.String)).tolist()
    ]
    assert in_pieces == rows
    assert pieces.ids.to_list() == list(dict.fromkeys(words))
    assert whole.decode(rows) == words


@given(first=WORDS, second=WORDS)
def test_growing_never_changes_a_row(first: list[str], second: list[str]) -> None:
    vocabulary = GrowingVocabulary()
    before = vocabulary.encode(pl.Series(first, dtype=pl.String)).tolist()
    vocabulary.encode(pl.Series(second, dtype=pl.String))
    assert vocabulary.encode(pl.Series(first, dtype=pl.String), grow=False).tolist() == before


def test_unknown_identifiers_are_minus_one_without_growing() -> None:
    vocabulary = GrowingVocabulary(["x", "y"])
    assert vocabulary.encode(pl.Series(["y", "z", "x", "z"]), grow=False).tolist() == [1, -1, 0, -1]
    assert len(vocabulary) == 2


def test_a_saved_vocabulary_goes_on_where_it_was(tmp_path: Path) -> None:
    vocabulary = GrowingVocabulary(["x"])
    vocabulary.encode(pl.Series(["b", "a"]))
    vocabulary.save(tmp_path / "ids.parquet")
    loaded = GrowingVocabulary.load(tmp_path / "ids.parquet")
    assert loaded.encode(pl.Series(["c", "a", "x"])).tolist() == [3, 2, 0]


def test_an_empty_vocabulary_can_be_saved(tmp_path: Path) -> None:
    GrowingVocabulary().save(tmp_path / "ids.parquet")
    assert len(GrowingVocabulary.load(tmp_path / "ids.parquet")) == 0


def test_wrong_identifiers_are_refused() -> None:
    with pytest.raises(DataError, match="user identifier is null in row 2"):
        GrowingVocabulary(kind="user").encode(pl.Series(["a", None]))
    with pytest.raises(DataError, match="distinct"):
        GrowingVocabulary(["a", "a"])
