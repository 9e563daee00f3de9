"""What the commands that compute runs share."""

from __future__ import annotations

import pytest

from recascade.bench.suite import configs_of
from recascade.cli.sweeping import _metric
from recascade.errors import ConfigurationError


@pytest.mark.parametrize(
    ("method", "metric"),
    [
        ("popularity", "ndcg@10/explore"),
        ("popularity", "mrr@5"),
        ("mmr", "auc"),
        ("mmr", "ild@10"),
        ("mmr", "clicks@1"),
    ],
)
def test_a_table_is_ordered_by_any_metric_of_its_runs(method: str, metric: str) -> None:
    assert _metric(configs_of(method, "log", "default", 1, {}), metric) == metric


@pytest.mark.parametrize(
    ("method", "metric"), [("popularity", "ndcg@10/typo"), ("popularity", "auc"), ("mmr", "mrr@10"), ("mmr", "ild@1")]
)
def test_another_metric_is_refused(method: str, metric: str) -> None:
    with pytest.raises(ConfigurationError, match="is not measured by every run"):
        _metric(configs_of(method, "log", "default", 1, {}), metric)


def test_without_a_wish_it_is_one_that_the_settings_name() -> None:
    assert _metric(configs_of("mmr", "log", "default", 1, {}), None) == "ndcg@10"
    assert _metric(configs_of("mmr", "log", "default", 1, {"evaluation.cutoffs": [3]}), None) == "capped_map@3"
