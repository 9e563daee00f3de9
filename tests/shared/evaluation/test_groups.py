"""Groups of users are what their names say."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
import torch

from recascade.data.encoded import EncodedSplit
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import Evaluation, evaluate
from recascade.models.popularity import Popularity


def measured(data: EncodedSplit) -> Evaluation:
    return evaluate(Popularity(torch.zeros(len(data.items))), data, "test", EvaluationConfig(cutoffs=[1]))


def test_activity_are_thirds_of_the_users_by_history(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0] * length for length in (1, 2, 3, 4, 5, 6)], items=2, test=[[1]] * 6)
    assert measured(data).per_user["activity"].to_list() == ["low", "low", "middle", "middle", "high", "high"]


def test_equal_activity_stays_together(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0]] * 5, items=2, test=[[1]] * 5)
    result = measured(data)
    assert result.per_user["activity"].unique().to_list() == ["low"]
    assert list(result.groups["activity"]) == ["low"]


def test_popularity_classes_hold_a_third_of_the_training_events_each(
    encoded_split: Callable[..., EncodedSplit],
) -> None:
    # Events per item: 4, 2, 2, 1, 1, 1, 1, 0. Item 0 takes the first third, 1 and 2 the second, the others the rest.
    history = [0] * 4 + [1] * 2 + [2] * 2 + [3, 4, 5, 6]
    tests = [[item] for item in range(8)] + [[-1]]
    data = encoded_split([history] + [[]] * 8, items=8, test=tests)
    classes = measured(data).per_user["popularity"].to_list()
    assert classes == ["head", "middle", "middle"] + ["tail"] * 6


def test_a_set_of_targets_has_the_class_of_its_median(encoded_split: Callable[..., EncodedSplit]) -> None:
    history = [0] * 4 + [1] * 2 + [2] * 2 + [3, 4, 5, 6]
    data = encoded_split([history, [], []], items=8, test=[[0, 1, 6], [0, 3], [0, 1, 2]])
    assert measured(data).per_user["popularity"].to_list() == ["middle", "tail", "middle"]


def test_group_means_weigh_back_to_the_whole(encoded_split: Callable[..., EncodedSplit]) -> None:
    data = encoded_split([[0] * length for length in (1, 2, 3, 4, 5)], items=3, test=[[0], [1], [0], [2], [0]])
    result = evaluate(Popularity.fit(data), data, "test", EvaluationConfig(cutoffs=[1]))
    groups = result.groups["activity"].values()
    assert sum(group["users"] for group in groups) == 5
    total = sum(group["users"] * group["hit_rate@1"] for group in groups)
    assert total / 5 == pytest.approx(result.summary["hit_rate@1"])
    assert result.per_user["hit_rate@1"].dtype == pl.Float64
