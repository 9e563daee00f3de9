from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recascade.data.events import offsets_of
from recascade.data.lists import JudgedLists
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_from_judged import lists_from_judged
from recascade.data.reranking_lists import PARTS
from recascade.errors import DataError

CONFIG = ListsConfig(candidates=5, clicked_only=False)


def judged(queries: int = 50, seed: int = 0) -> JudgedLists:
    """Queries of 3 to 9 documents in five folds, whose label follows their first feature; the last is often unknown."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 10, queries)
    count = int(lengths.sum())
    features = random.normal(size=(count, 3)).astype(np.float32)
    features[random.random(count) < 0.4, 2] = np.nan
    return JudgedLists(
        query_ids=pl.Series([f"q{number}" for number in range(queries)]),
        document_ids=pl.Series([f"d{number}" for number in range(count)]),
        offsets=offsets_of(lengths),
        labels=np.clip(np.round(features[:, 0] + random.normal(0, 0.3, count)), 0, 2).astype(np.float32),
        features=features,
        initial_positions=np.full(count, -1),
        folds=np.arange(queries) % 5,
    )


def test_no_label_of_the_test_fold_reaches_any_list_but_its_own() -> None:
    source = judged()
    owners = np.repeat(source.folds, source.lengths)
    other = replace(source, labels=np.where(owners == 2, 2 - source.labels, source.labels))
    one, two = (lists_from_judged(each, CONFIG, test_fold=2) for each in (source, other))
    assert np.array_equal(one.scores, two.scores) and np.array_equal(one.features, two.features, equal_nan=True)
    assert not np.array_equal(one.labels, two.labels)


def test_no_list_is_scored_by_a_ranker_that_saw_its_labels() -> None:
    source = judged()
    owners = np.repeat(source.folds, source.lengths)
    for fold in (3, 4, 0):
        other = replace(source, labels=np.where(owners == fold, 2 - source.labels, source.labels))
        one, two = (lists_from_judged(each, CONFIG, test_fold=2) for each in (source, other))
        own = [number for number, name in enumerate(one.ids) if int(name[1:]) % 5 == fold]
        places = np.concatenate([np.arange(one.offsets[row], one.offsets[row + 1]) for row in own])
        assert np.array_equal(one.scores[places], two.scores[places])


def test_the_best_documents_stand_first_and_the_fold_after_the_test_validates() -> None:
    source = judged()
    lists = lists_from_judged(source, CONFIG, test_fold=4)
    assert np.array_equal(lists.lengths, np.minimum(source.lengths, 5))
    for row in range(len(lists)):
        assert (np.diff(lists.scores[lists.offsets[row] : lists.offsets[row + 1]]) <= 0).all()
    folds = np.array([int(name[1:]) % 5 for name in lists.ids])
    assert set(folds[lists.rows("test")]) == {4} and set(folds[lists.rows("validation")]) == {0}
    first = lists.labels[lists.offsets[:-1]].mean()
    last = lists.labels[lists.offsets[1:] - 1].mean()
    assert first > last + 0.5


def test_any_other_fold_can_validate_and_the_rest_trains() -> None:
    source = judged()
    lists = lists_from_judged(source, CONFIG, test_fold=4, validation_fold=2)
    folds = np.array([int(name[1:]) % 5 for name in lists.ids])
    found = {part: set(folds[lists.rows(part)].tolist()) for part in PARTS}
    assert found == {"train": {0, 1, 3}, "validation": {2}, "test": {4}}
    for wrong in (4, 9):
        with pytest.raises(DataError, match=f"Fold {wrong} cannot validate"):
            lists_from_judged(source, CONFIG, test_fold=4, validation_fold=wrong)


def test_a_position_in_the_file_is_kept() -> None:
    source = judged()
    positions = np.concatenate([np.arange(length)[::-1] for length in source.lengths])
    lists = lists_from_judged(replace(source, initial_positions=positions), CONFIG, test_fold=0)
    expected = source.features[source.offsets[1:] - 1][:, 0]
    assert np.array_equal(lists.features[lists.offsets[:-1], 0], expected)


def test_features_are_standardised_by_training_lists_and_gaps_are_marked() -> None:
    lists = lists_from_judged(judged(), CONFIG, test_fold=1)
    assert lists.features.shape[1] == 4
    assert np.array_equal(np.isnan(lists.features[:, 2]), lists.features[:, 3] == 1)
    batch = lists.batch(lists.rows("train"))
    values = batch.candidate_features[batch.candidate_mask]
    assert values.mean(0).abs().max() < 1e-5 and values.isfinite().all()


def test_queries_without_a_relevant_document_can_be_left_out() -> None:
    source = judged()
    labels = np.where(np.repeat(np.arange(50), source.lengths) == 7, 0, source.labels).astype(np.float32)
    lists = lists_from_judged(replace(source, labels=labels), replace(CONFIG, clicked_only=True), test_fold=0)
    assert "q7" not in lists.ids.to_list()
    assert (np.add.reduceat(lists.labels, lists.offsets[:-1]) > 0).all()


def test_too_few_folds_and_unknown_ones_are_explained() -> None:
    source = judged()
    with pytest.raises(DataError, match=r"folds are \[0, 1, 2, 3, 4\]"):
        lists_from_judged(source, CONFIG, test_fold=9)
    with pytest.raises(DataError, match="at least four"):
        lists_from_judged(replace(source, folds=source.folds % 3), CONFIG, test_fold=0)
