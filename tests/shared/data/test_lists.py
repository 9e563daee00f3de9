from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.data.lists import ListData, read_lists
from recascade.errors import DataError

DATA = Path(os.environ.get("RECASCADE_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


@dataclass
class Settings:
    batch_sequences: int = 3
    batch_tokens: int = 0
    bucket: int = 2
    validation_users: int = 0
    workers: int = 0


def write(path: Path, lengths: list[int], seed: int = 0, **changes) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    query = [str(number) for number, length in enumerate(lengths) for _ in range(length)]
    columns = {
        "query_id": query,
        "doc_id": [f"d{number}" for number in range(len(query))],
        "label": random.integers(0, 3, len(query)),
        "features": random.normal(3, 2, (len(query), 2)).astype(np.float32).tolist(),
        "fold": [int(number) % 5 for number in query],
    }
    table = pl.DataFrame(columns | changes)
    table.write_parquet(path)
    return table


@given(st.lists(st.integers(1, 6), min_size=10, max_size=30))
@settings(max_examples=30)
def test_batches_hold_whole_lists_of_the_training_folds(tmp_path_factory, lengths) -> None:
    path = tmp_path_factory.mktemp("lists") / "lists.parquet"
    table = write(path, lengths)
    data = ListData(read_lists(path), Settings(), validation_fold=3, test_fold=4)
    found = {}
    for batch in data.train_dataloader():
        for place, row in enumerate(batch.lists.tolist()):
            begin, end = batch.offsets[place : place + 2].tolist()
            assert row not in found
            found[row] = batch.labels[begin:end].tolist()
    expected = table.filter(pl.col("fold") < 3).group_by("query_id", maintain_order=True).agg("label")
    assert found == {int(query): label for query, label in expected.iter_rows()}


def test_lists_that_are_scattered_in_the_file_are_gathered_in_order(tmp_path) -> None:
    table = write(tmp_path / "whole.parquet", [2, 2, 1])
    scattered = table[[2, 0, 3, 4, 1]]
    scattered.write_parquet(tmp_path / "scattered.parquet")
    lists = read_lists(tmp_path / "scattered.parquet")
    assert lists.query_ids.to_list() == ["1", "0", "2"]
    assert lists.document_ids.to_list() == ["d2", "d3", "d0", "d1", "d4"]
    assert lists.lengths.tolist() == [2, 2, 1]
    assert np.array_equal(lists.labels, table["label"].to_numpy()[[2, 3, 0, 1, 4]])


def test_features_are_standardised_by_the_training_lists_alone(tmp_path) -> None:
    lengths = [3] * 20
    table = write(tmp_path / "lists.parquet", lengths)
    data = ListData(read_lists(tmp_path / "lists.parquet"), Settings(), validation_fold=3, test_fold=4)
    trained = torch.cat([batch.features for batch in data.train_dataloader()])
    assert trained.mean(0).abs().max() < 1e-5
    assert (trained.std(0, correction=0) - 1).abs().max() < 1e-5
    shifted = table.with_columns(
        features=pl.when(pl.col("fold") == 4).then(pl.lit([1e6, 1e6], dtype=pl.List(pl.Float32))).otherwise("features")
    )
    shifted.write_parquet(tmp_path / "shifted.parquet")
    other = ListData(read_lists(tmp_path / "shifted.parquet"), Settings(), validation_fold=3, test_fold=4)
    for left, right in zip(data.train_dataloader(), other.train_dataloader(), strict=True):
        assert left.features.equal(right.features)


def test_unknown_features_become_the_mean(tmp_path) -> None:
    values = [[float("nan"), 1.0], [2.0, None], [4.0, 5.0], [1.0, 1.0], [1.0, 1.0]]
    write(tmp_path / "lists.parquet", [3, 1, 1], features=values, fold=[0, 0, 0, 3, 4])
    data = ListData(read_lists(tmp_path / "lists.parquet"), Settings(), validation_fold=3, test_fold=4)
    assert data.batch(np.array([0])).features.tolist() == [[0.0, -1.0], [-1.0, 0.0], [1.0, 1.0]]


def test_validation_and_test_loaders_keep_the_order(tmp_path) -> None:
    write(tmp_path / "lists.parquet", [1] * 25)
    data = ListData(read_lists(tmp_path / "lists.parquet"), Settings(), validation_fold=3, test_fold=4)
    assert torch.cat([batch.lists for batch in data.val_dataloader()]).tolist() == [3, 8, 13, 18, 23]
    assert torch.cat([batch.lists for batch in data.test_dataloader()]).tolist() == [4, 9, 14, 19, 24]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"doc_id": ["d", "d", "e"]}, "Document 'd' stands more than once in list '0'"),
        ({"fold": [0, 1, 2]}, "List '0' of .* lies in 2 folds"),
        ({"features": [[1.0], [1.0, 2.0], [1.0]]}, "lists of one length"),
        ({"features": [1.0, 2.0, 3.0]}, "must hold lists of numbers, but it is Float64"),
        ({"label": [1, None, 0]}, "'label' .* without nulls"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, changes, sentence) -> None:
    write(tmp_path / "lists.parquet", [2, 1], **changes)
    with pytest.raises(DataError, match=sentence):
        read_lists(tmp_path / "lists.parquet")


def test_missing_columns_are_named(tmp_path) -> None:
    write(tmp_path / "lists.parquet", [2, 1]).drop("label", "fold").write_parquet(tmp_path / "lists.parquet")
    with pytest.raises(DataError, match="lacks fold, label"):
        read_lists(tmp_path / "lists.parquet")


def test_no_list_for_training_is_refused(tmp_path) -> None:
    write(tmp_path / "lists.parquet", [2, 1], fold=[0, 0, 1])
    with pytest.raises(DataError, match="leave no list to train on"):
        ListData(read_lists(tmp_path / "lists.parquet"), Settings(), validation_fold=0, test_fold=1)


@pytest.mark.skipif(not (DATA / "mq2007").is_dir(), reason="MQ2007 is not there (set RECASCADE_DATA)")
def test_real_lists() -> None:
    lists = read_lists(DATA / "mq2007" / "lists.parquet")
    assert (len(lists), len(lists.labels), lists.features.shape[1]) == (1692, 69623, 21)
    assert (lists.initial_positions == -1).all()
    data = ListData(lists, Settings(batch_sequences=64, batch_tokens=2048), validation_fold=4, test_fold=5)
    batches = list(data.train_dataloader())
    assert sum(len(batch.lists) for batch in batches) == len(data.training)
    assert max(batch.event_count for batch in batches) <= 2048
    assert all(batch.features.isfinite().all() for batch in batches)
