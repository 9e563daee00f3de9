from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from recascade.bench.report.labels import _box, place_labels

WIDTH, HEIGHT = 440.0, 300.0


def test_names_of_points_that_lie_apart_stand_to_their_right() -> None:
    places = place_labels([(50.0, 40.0), (60.0, 150.0), (20.0, 260.0)], ["one", "two", "three"], WIDTH, HEIGHT)
    assert {place.anchor for place in places} == {"start"}


def test_name_at_the_right_edge_turns_to_the_left() -> None:
    (place,) = place_labels([(435.0, 150.0)], ["transition-similarity"], WIDTH, HEIGHT)
    assert place.anchor == "end"


def test_names_of_neighbouring_points_do_not_cover_each_other() -> None:
    points = [(200.0, 100.0), (206.0, 104.0), (230.0, 98.0), (210.0, 130.0)]
    names = ["sasrec", "sasrec · sampled", "hstu", "gru4rec"]
    places = place_labels(points, names, WIDTH, HEIGHT)
    boxes = [_box(x, y, name, place) for (x, y), name, place in zip(points, names, places, strict=True)]
    assert all(one.overlap(other) == 0.0 for one, other in itertools.combinations(boxes, 2))


@given(st.lists(st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT)), max_size=12))
def test_every_point_gets_a_place_whatever_the_crowd(points: list[tuple[float, float]]) -> None:
    assert len(place_labels(points, ["name"] * len(points), WIDTH, HEIGHT)) == len(points)
