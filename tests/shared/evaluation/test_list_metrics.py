from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_lists import small_lists

from recascade.data.reranking_batch import RerankingBatch
from recascade.errors import ConfigurationError, DataError, TrainingError
from recascade.evaluation.evaluate_lists import evaluate_lists
from recascade.evaluation.list_config import LIST_METRICS, ListEvaluationConfig
from recascade.evaluation.list_metrics import (
    capped_map,
    found_map,
    intra_list_diversity,
    list_metric,
    ndcg,
    ordered_labels,
    parse_list_metric,
    recall,
)
from recascade.models.initial_order import InitialOrder

LABELS = np.array([[0, 1, 0, 1, 1]], dtype=np.float32)


def test_by_hand() -> None:
    assert ndcg(LABELS, LABELS, 3)[0] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3) + 0.5))
    assert found_map(LABELS, LABELS, 4)[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert capped_map(LABELS, LABELS, 4)[0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert capped_map(LABELS, LABELS, 2)[0] == pytest.approx((1 / 2) / 2)
    assert recall(LABELS, LABELS, 4)[0] == pytest.approx(2 / 3)
    assert list_metric("clicks")(LABELS, LABELS, 4)[0] == 2
    assert list_metric("hit_rate")(LABELS, LABELS, 1)[0] == 0


def test_both_conventions_of_map_agree_where_everything_was_found() -> None:
    assert found_map(LABELS, LABELS, 5) == capped_map(LABELS, LABELS, 5)


def test_grades_count_by_their_gain() -> None:
    labels = np.array([[1, 3, 0]], dtype=np.float32)
    ideal = 7 + 1 / math.log2(3)
    assert ndcg(labels, labels, 3)[0] == pytest.approx((1 + 7 / math.log2(3)) / ideal)


@pytest.mark.parametrize("name", LIST_METRICS)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.integers(1, 10))
def test_the_ideal_order_is_best_and_worth_one(name: str, grades: list[int], k: int) -> None:
    labels = np.array([grades], dtype=np.float32)
    ideal, worst = -np.sort(-labels), np.sort(labels)
    metric = list_metric(name)
    best = metric(ideal, labels, k)[0]
    assert metric(worst, labels, k)[0] <= metric(labels, labels, k)[0] + 1e-12 <= best + 2e-12
    if name in ("ndcg", "found_map", "capped_map"):
        assert best == pytest.approx(1.0 if any(grades) else 0.0)


@pytest.mark.parametrize("name", LIST_METRICS)
def test_padding_and_empty_places_count_nothing(name: str) -> None:
    order = np.array([[3, 1, 0, 4, 2]])
    alone = list_metric(name)(ordered_labels(LABELS, order), LABELS, 4)
    padded = np.pad(LABELS, ((0, 0), (0, 3)))
    longer = np.pad(order, ((0, 0), (0, 3)), constant_values=-1)
    assert list_metric(name)(ordered_labels(padded, longer), padded, 4) == alone


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    similarity = np.array([[[1, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 1]]], dtype=np.float32)
    orders = np.array([[2, 0, 1]])
    assert intra_list_diversity(similarity, orders, 2)[0] == pytest.approx(1.0)
    assert intra_list_diversity(similarity, orders, 3)[0] == pytest.approx((1 + 0.5 + 0.8) / 3)
    assert np.isnan(intra_list_diversity(similarity, np.array([[1, -1, -1]]), 3)[0])


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="capped_map"):
        list_metric("caped_map")
    with pytest.raises(ConfigurationError, match="ndcg@10"):
        parse_list_metric("ndcg")
    with pytest.raises(ConfigurationError, match="found_map"):
        ListEvaluationConfig(metrics=["fond_map"]).check()


def test_evaluation_of_the_initial_order_is_that_of_the_labels_as_they_stand() -> None:
    lists = small_lists(60)
    found = evaluate_lists(InitialOrder(), lists, "test", ListEvaluationConfig(cutoffs=[1, 3], batch_size=5))
    rows = lists.rows("test")
    for place, row in enumerate(rows):
        labels = lists.labels[lists.offsets[row] : lists.offsets[row + 1]][None]
        assert found.per_list["ndcg@3"][place] == pytest.approx(ndcg(labels, labels, 3)[0])
        assert found.per_list["list_id"][place] == lists.ids[int(row)]
        assert found.per_list["history_length"][place] == lists.history_lengths[row]
    assert found.summary["ndcg@3"] == pytest.approx(found.per_list["ndcg@3"].mean())
    assert 0 <= found.summary["auc"] <= 1
    assert sum(group["users"] for group in found.groups["activity"].values()) == len(rows)


@dataclass
class Cheater:
    """Orders by whatever labels it is shown."""

    def rerank(self, batch: RerankingBatch, count: int) -> torch.Tensor:
        order = InitialOrder().rerank(batch, count)
        assert (batch.labels == 0).all()
        return order


def test_no_label_reaches_the_reranker() -> None:
    evaluate_lists(Cheater(), small_lists(), "validation", ListEvaluationConfig())


@pytest.mark.parametrize("fault", ["twice", "missing", "padding first"])
def test_an_order_that_is_none_is_refused(fault: str) -> None:
    class Faulty:
        def rerank(self, batch: RerankingBatch, count: int) -> torch.Tensor:
            order = InitialOrder().rerank(batch, count)
            row = int((batch.lengths > 1).nonzero()[0])
            if fault == "twice":
                order[row, 1] = 0
            elif fault == "missing":
                order[row, 1] = -1
            else:
                order[row] = order[row].roll(1) if batch.lengths[row] < count else order[row].fill_(-1)
            return order

    with pytest.raises(TrainingError, match=r"order of list 'list-\d+'"):
        evaluate_lists(Faulty(), small_lists(), "train", ListEvaluationConfig())


def test_a_part_without_lists_says_so() -> None:
    lists = small_lists(3)
    with pytest.raises(DataError, match="no test lists"):
        evaluate_lists(InitialOrder(), lists, "test", ListEvaluationConfig())
