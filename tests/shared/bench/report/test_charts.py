from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from recascade.bench.report.charts import (
    Line,
    Point,
    curves,
    interval,
    interval_axis,
    interval_scale,
    interval_zero,
    pareto_front,
    scatter,
    shared_background,
    use_background,
)
from recascade.bench.report.scales import Scale

EVIL = '<script>alert("1")</script>&'


def points(count: int, name: str = "method") -> list[Point]:
    return [
        Point(f"{name} {index}", 10.0**index, 0.1 * index, 0.01 if index % 2 else None, index > 1, f"text {name}")
        for index in range(count)
    ]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=15))
def test_pareto_front_is_what_no_other_point_beats(drawn: list[tuple[int, int]]) -> None:
    front = pareto_front(drawn)

    def beaten(index: int) -> bool:
        cost, quality = drawn[index]
        return any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in drawn)

    unbeaten = {drawn[index] for index in range(len(drawn)) if not beaten(index)}
    assert {drawn[index] for index in front} == unbeaten


def test_charts_are_well_formed_and_escape_names() -> None:
    x, y = Scale(1.0, 10.0), Scale(0.0, 1.0)
    line = Line([1, 2, 3], [0.1, 0.5, 0.4], kept=(2, 0.5))
    drawings = [
        scatter(points(4, EVIL), f"cost {EVIL}", f"quality {EVIL}"),
        curves([line], x, y, label=EVIL, x_label="epoch", background=use_background(EVIL)),
        shared_background(EVIL, [line, line], x, y),
        interval(0.1, 0.0, 0.2, Scale(-1.0, 1.0), "better"),
        interval_zero(Scale(-1.0, 1.0)),
        interval_axis(Scale(-1.0, 1.0)),
    ]
    for drawing in drawings:
        ElementTree.fromstring(str(drawing))
        assert "<script" not in drawing


def test_scatter_says_its_units_and_shows_every_point_with_its_name() -> None:
    drawing = scatter(points(5), "Fit, CPU seconds", "NDCG@10")
    assert "Fit, CPU seconds, logarithmic" in drawing
    assert "NDCG@10" in drawing
    assert drawing.count("<circle") == 5
    # Each name is placed twice, for narrow and for wide pages.
    assert all(drawing.count(f">method {index}</text>") == 2 for index in range(5))


def test_better_points_stand_higher_and_dearer_points_further_right() -> None:
    drawing = ElementTree.fromstring(str(scatter(points(3), "cost", "quality")))
    circles = [circle.attrib for circle in drawing.iter("circle")]
    positions = [(float(circle["cx"].rstrip("%")), float(circle["cy"].rstrip("%"))) for circle in circles]
    by_cost = sorted(positions)
    assert [y for _, y in by_cost] == sorted((y for _, y in by_cost), reverse=True)


def test_interval_axis_always_holds_zero() -> None:
    for ends in ([0.1, 0.2], [-0.3, -0.1], [-0.1, 0.1], []):
        scale = interval_scale(ends)
        assert scale.low < 0.0 < scale.high
        assert 0.0 <= scale.position(0.0) <= 100.0
