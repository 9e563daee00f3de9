"""Ranking metrics agree with ir-measures on sets of targets, and keep their own promises."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recascade.errors import ConfigurationError
from recascade.evaluation.config import RANKING_METRICS, EvaluationConfig
from recascade.evaluation.ranking_metrics import ranking_metric

LENGTH = 20
ORACLES = {"hit_rate": "Success", "recall": "R", "precision": "P", "ndcg": "nDCG", "mrr": "RR", "map": "AP"}


def random_lists(seed: int, users: int) -> tuple[list[list[int]], list[set[int]]]:
    """Lists of 20 of 60 items and target sets of 1 to 30 items, some out of reach (numbers from 60 on)."""
    generator = np.random.default_rng(seed)
    lists = [generator.permutation(60)[:LENGTH].tolist() for _ in range(users)]
    targets = [set(generator.permutation(70)[: generator.integers(1, 31)].tolist()) for _ in range(users)]
    return lists, targets


def hits_of(lists: list[list[int]], targets: list[set[int]]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    hits = np.array(
        [[item in wanted for item in row] for row, wanted in zip(lists, targets, strict=True)], dtype=np.bool_
    )
    return hits, np.array([len(wanted) for wanted in targets], dtype=np.int64)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_agrees_with_ir_measures(name: str, k: int) -> None:
    lists, targets = random_lists(7, 200)
    hits, counts = hits_of(lists, targets)
    judged = [ir_measures.Qrel(str(user), str(item), 1) for user, wanted in enumerate(targets) for item in wanted]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(LENGTH - place))
        for user, row in enumerate(lists)
        for place, item in enumerate(row)
    ]
    measure = ir_measures.parse_measure(f"{ORACLES[name]}@{k}")
    expected = {int(value.query_id): value.value for value in ir_measures.iter_calc([measure], judged, run)}
    found = ranking_metric(name)(hits, counts, k)
    np.testing.assert_allclose(found, [expected[user] for user in range(len(lists))], rtol=0, atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, LENGTH), name=st.sampled_from(RANKING_METRICS))
def test_stay_between_zero_and_one_and_never_fall_when_a_hit_moves_up(seed: int, k: int, name: str) -> None:
    lists, targets = random_lists(seed, 3)
    hits, counts = hits_of(lists, targets)
    metric = ranking_metric(name)
    before = metric(hits, counts, k)
    assert ((before >= 0) & (before <= 1 + 1e-12)).all()
    better = hits.copy()
    for row in better:
        place = int(row.argmax())
        if place:
            row[place - 1], row[place] = True, False
    assert (metric(better, counts, k) >= before - 1e-12).all()


@pytest.mark.parametrize("name", ["hit_rate", "capped_recall", "ndcg", "mrr", "capped_map"])
@pytest.mark.parametrize("targets", [1, 3, 40])
def test_a_perfect_list_scores_one_whatever_the_number_of_targets(name: str, targets: int) -> None:
    hits = (np.arange(10) < targets)[None, :]
    assert ranking_metric(name)(hits, np.array([targets]), 10)[0] == pytest.approx(1.0, abs=1e-12)


def test_two_definitions_have_two_values() -> None:
    hits = np.ones((1, 5), dtype=np.bool_)
    counts = np.array([20])
    assert ranking_metric("recall")(hits, counts, 5)[0] == 0.25
    assert ranking_metric("capped_recall")(hits, counts, 5)[0] == 1.0
    assert ranking_metric("map")(hits, counts, 5)[0] == 0.25
    assert ranking_metric("capped_map")(hits, counts, 5)[0] == 1.0
    first_of_one = np.array([[True] + [False] * 9])
    one = np.array([1])
    assert ranking_metric("ndcg")(first_of_one, one, 10)[0] == 1.0
    ideal = sum(1 / math.log2(place + 1) for place in range(1, 11))
    assert ranking_metric("full_list_ndcg")(first_of_one, one, 10)[0] == pytest.approx(1 / ideal, abs=1e-12)


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_a_user_without_targets_has_no_value(name: str) -> None:
    values = ranking_metric(name)(np.zeros((2, 4), dtype=np.bool_), np.array([0, 1]), 4)
    assert np.isnan(values[0]) and values[1] == 0


def test_precision_divides_by_the_cutoff_even_where_the_list_is_shorter() -> None:
    assert ranking_metric("precision")(np.array([[True, True]]), np.array([2]), 10)[0] == pytest.approx(0.2)


def test_every_configurable_metric_exists_and_others_are_refused() -> None:
    EvaluationConfig(metrics=list(RANKING_METRICS))
    with pytest.raises(ConfigurationError, match="Did you mean 'ndcg'"):
        EvaluationConfig(metrics=["ndgc"])
    with pytest.raises(ConfigurationError, match="Did you mean 'recall'"):
        ranking_metric("recal")


@pytest.mark.parametrize(
    "settings_", [{"cutoffs": []}, {"cutoffs": [0]}, {"batch_size": 0}, {"list_length": 5, "cutoffs": [10]}]
)
def test_impossible_settings_are_refused(settings_: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"evaluation\."):
        EvaluationConfig(**settings_)
