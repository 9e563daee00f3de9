from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError

IDS = st.sets(st.text(max_size=8), min_size=1, max_size=30)


@given(IDS, st.data())
def test_decode_inverts_encode(ids, data) -> None:
    vocabulary = Vocabulary.seeded(pl.Series(sorted(ids), dtype=pl.String), 0)
    asked = data.draw(st.lists(st.sampled_from(sorted(ids))))
    assert vocabulary.decode(vocabulary.encode(asked)) == asked
    assert len(vocabulary) == len(ids)


@given(IDS, IDS, st.integers(0, 3))
def test_appended_identifiers_follow_and_change_nothing(ids, more, seed) -> None:
    first = pl.Series(sorted(ids), dtype=pl.String)
    alone = Vocabulary.seeded(first, seed).ids.to_list()
    extended = Vocabulary.seeded(first, seed, appended=pl.Series(sorted(more), dtype=pl.String)).ids.to_list()
    assert extended[: len(alone)] == alone
    assert set(extended) == ids | more


def test_unknown_identifiers_get_a_number_or_a_sentence() -> None:
    vocabulary = Vocabulary(["x", "y"], kind="item")
    assert vocabulary.encode(["y", "q", "x"], unknown=-1).tolist() == [1, -1, 0]
    with pytest.raises(DataError, match=r"2 of 4 item identifiers are unknown .*first 'q' in row 2"):
        vocabulary.encode(["y", "q", "x", "r"])


def test_save_and_load(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["x", "ä", "y"], kind="user")
    vocabulary.save(tmp_path / "users.parquet")
    loaded = Vocabulary.load(tmp_path / "users.parquet", kind="user")
    assert loaded.ids.to_list() == ["x", "ä", "y"]
    (tmp_path / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a complete Parquet file"):
        Vocabulary.load(tmp_path / "users.parquet")


def test_repeated_identifiers_are_refused() -> None:
    with pytest.raises(DataError, match="must be distinct"):
        Vocabulary(["x", "x"])


def test_an_empty_vocabulary_knows_nothing() -> None:
    assert Vocabulary([]).encode(["x"], unknown=-1).tolist() == [-1]
