from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_script import run_script

from recascade.evaluation.shards import ALONE, Shard

TOGETHER = [(processes, rank) for processes in (2, 3) for rank in range(processes)]


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("evaluations")
    run_script("shared_evaluation", directory)
    return directory


def summaries(place: Path) -> dict:
    return json.loads((place / "summaries.json").read_text())


@pytest.mark.parametrize(("processes", "rank"), TOGETHER)
def test_every_process_gets_the_numbers_of_one_bit_for_bit(evaluations, processes, rank) -> None:
    alone, ours = evaluations / "1-0", evaluations / f"{processes}-{rank}"
    for table in ("per_user", "per_list"):
        assert pl.read_parquet(ours / f"{table}.parquet").equals(pl.read_parquet(alone / f"{table}.parquet"))
    for array in ("lists", "orders"):
        assert np.array_equal(np.load(ours / f"{array}.npy"), np.load(alone / f"{array}.npy"))
    own, other = summaries(ours), summaries(alone)
    assert {**own, "asked": 0} == {**other, "asked": 0}


@pytest.mark.parametrize("processes", [2, 3])
def test_every_user_is_asked_about_once(evaluations, processes) -> None:
    asked = [summaries(evaluations / f"{processes}-{rank}")["asked"] for rank in range(processes)]
    assert sum(asked) == summaries(evaluations / "1-0")["asked"] == 70
    assert max(asked) - min(asked) <= 8


@given(st.integers(0, 100), st.integers(1, 20), st.integers(1, 5))
def test_batches_are_those_of_one_process(rows: int, batch_rows: int, count: int) -> None:
    starts = [list(Shard(rank, count).starts(rows, batch_rows)) for rank in range(count)]
    assert sorted(start for own in starts for start in own) == list(ALONE.starts(rows, batch_rows))


def test_alone_nothing_is_exchanged() -> None:
    values = np.array([[1.0, np.nan], [-0.0, np.inf]])
    assert ALONE.merge(values) is values
