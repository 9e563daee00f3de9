from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recascade.bench.report.formatting import (
    MISSING,
    grouped,
    metric_label,
    metric_order,
    number,
    probability,
    signed,
    signed_percent,
    significant,
)


@given(st.floats(-1e6, 1e6))
def test_printed_numbers_read_back_as_the_rounded_value(value: float) -> None:
    assert float(number(value).replace("−", "-")) == round(value, 4)
    assert float(signed(value).replace("−", "-").replace("+", "")) == round(value, 4)


@given(st.floats(1e-9, 1e12))
def test_costs_keep_two_significant_figures_at_least(value: float) -> None:
    printed = float(significant(value).replace("\u202f", ""))
    assert abs(printed - value) <= 0.051 * value


def test_signs() -> None:
    assert [signed(value) for value in (0.1, -0.1, 0.0, -0.00001)] == ["+0.1000", "−0.1000", "0.0000", "0.0000"]
    assert signed_percent(-0.0664) == "−6.6\u202f%"


def test_missing_values_are_a_dash_everywhere() -> None:
    for write in (number, signed, signed_percent, grouped, significant, probability):
        assert write(None) == MISSING
        assert write(float("nan")) == MISSING


def test_small_probabilities_are_not_printed_as_zero() -> None:
    assert probability(1e-30) == "<0.001"
    assert probability(0.0123) == "0.012"


def test_metric_names() -> None:
    assert metric_label("ndcg@10") == "NDCG@10"
    assert metric_label("capped_recall@5/explore") == "Capped recall@5, explore"
    assert metric_label("something_new@3") == "Something new@3"
    names = ["mrr@5", "ndcg@20", "ndcg@5", "something_new@3", "hit_rate@10"]
    assert sorted(names, key=metric_order) == ["ndcg@5", "ndcg@20", "hit_rate@10", "mrr@5", "something_new@3"]
