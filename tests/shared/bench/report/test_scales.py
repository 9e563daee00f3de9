from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from recascade.bench.report.scales import Scale, linear_scale, linear_ticks, logarithmic_scale, tick_texts

magnitudes = st.floats(1e-6, 1e9, allow_nan=False)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_linear_axis_holds_every_value_inside_its_ends(values: list[float]) -> None:
    scale = linear_scale(values)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert all(0.0 <= scale.position(value) <= 100.0 for value in values)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_axis_of_values_that_cannot_be_negative_does_not_go_below_zero(values: list[float]) -> None:
    assert linear_scale(values).low >= 0.0


@given(st.lists(magnitudes, min_size=1, max_size=20))
def test_logarithmic_axis_holds_every_value_and_spans_a_decade(values: list[float]) -> None:
    scale = logarithmic_scale(values)
    assert scale.low < min(values) <= max(values) < scale.high
    assert scale.high / scale.low >= 10.0 * (1 - 1e-9)
    assert 1 <= len(scale.ticks) <= 7
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


@given(st.floats(-10.0, 10.0), st.floats(1e-3, 1e6))
def test_linear_ticks_are_few_evenly_spaced_and_inside(low: float, span: float) -> None:
    ticks = linear_ticks(low, low + span)
    assert 2 <= len(ticks) <= 6
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert max(steps) - min(steps) <= 1e-6 * max(steps)
    assert ticks[0] >= low - 1e-8 * span - 1e-9
    assert ticks[-1] <= low + span + 1e-8 * span + 1e-9


def test_position_grows_with_the_value_and_equal_factors_take_equal_room_on_a_logarithmic_axis() -> None:
    scale = Scale(1.0, 1000.0, logarithmic=True)
    assert [round(scale.position(value), 6) for value in (1, 10, 100, 1000)] == [0, 33.333333, 66.666667, 100]


def test_tick_texts_of_one_axis_differ_from_each_other() -> None:
    for ticks in ([0.0, 0.05, 0.1], [0.01, 0.1, 1.0, 10.0, 1000.0], [4.5, 5.0, 5.5], [10.0, 20.0], [-0.1, 0.0, 0.05]):
        texts = tick_texts(ticks)
        assert len(set(texts)) == len(ticks)
