from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recascade.bench.ablation import ablation_configs, grid_points, one_factor_points, parse_axes
from recascade.bench.config import changes
from recascade.errors import ConfigurationError

axes = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(), min_size=1, max_size=4, unique=True), min_size=1
)


@given(axes)
def test_a_grid_holds_every_combination_once(values: dict[str, list[int]]) -> None:
    points = grid_points(values)
    assert len(points) == math.prod(len(members) for members in values.values())
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert all(point[key] in values[key] for point in points for key in values)


@given(axes)
def test_one_factor_changes_at_most_one_thing(values: dict[str, list[int]]) -> None:
    points = one_factor_points(values)
    assert points[0] == {}
    assert all(len(point) == 1 for point in points[1:])
    assert len(points) == 1 + sum(len(members) for members in values.values())


def test_commas_in_brackets_and_quotes_belong_to_a_value() -> None:
    parsed = parse_axes(["evaluation.cutoffs=[5,10],[20]", "model.name='a,b',c", "blocks=1,2"])
    assert parsed == {
        "evaluation.cutoffs": [["5", "10"], ["20"]],
        "model.name": ["a,b", "c"],
        "model.blocks": ["1", "2"],
    }


def test_members_of_an_axis_are_read_by_the_type_of_their_setting(acme: None) -> None:
    runs = configs("acme", ["width=8,16", "split.target_domain=010,NO"])
    assert [(run.model.width, run.split.target_domain) for run in runs] == [
        (8, "010"),
        (8, "NO"),
        (16, "010"),
        (16, "NO"),
    ]


@pytest.mark.parametrize("text", ["model.blocks", "model.blocks=", "model.blocks=[1", "=1,2"])
def test_text_that_is_no_axis_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        configs("acme", [text])


def configs(method: str, texts: list[str], **options: Any) -> list[Any]:
    settings = {"data": "log", "variant": "default", "seeds": 1, "one_factor": False} | options
    return ablation_configs(method, texts, **settings)


def test_an_axis_given_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        parse_axes(["model.blocks=1", "blocks=2"])


def test_grid_with_seeds_and_a_fixed_key(acme: None) -> None:
    runs = configs("acme", ["width=8,16", "depth=1,2", "trainer.max_epochs=2"], seeds=3)
    assert len(runs) == 2 * 2 * 3
    assert {run.trainer.max_epochs for run in runs} == {2}
    assert {(run.model.width, run.model.depth) for run in runs} == {(8, 1), (8, 2), (16, 1), (16, 2)}
    assert {run.seed for run in runs} == {0, 1, 2}


def test_one_factor_keeps_the_others_at_their_default(acme: None) -> None:
    runs = configs("acme", ["width=8,16", "depth=2"], one_factor=True)
    assert [(run.model.width, run.model.depth) for run in runs] == [(8, 2), (8, 2), (16, 2)]


def test_declared_axes_are_varied_one_at_a_time(acme: None) -> None:
    runs = configs("acme", [])
    assert [changes(run) for run in runs] == [
        {},
        {},
        {"model.width": 16},
        {},
        {"model.depth": 2},
        {"model.depth": 3},
    ]


def test_the_variant_is_an_axis(acme: None) -> None:
    runs = configs("acme", ["variant=default,wide", "depth=1,2"])
    assert [(run.variant, run.model.width, run.model.depth) for run in runs] == [
        ("default", 8, 1),
        ("default", 8, 2),
        ("wide", 64, 1),
        ("wide", 64, 2),
    ]


def test_a_method_without_axes_asks_for_one() -> None:
    with pytest.raises(ConfigurationError, match="declares no ablation axes"):
        configs("popularity", [])


def test_an_unknown_axis_names_the_nearest(acme: None) -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean 'model\.width'"):
        configs("acme", ["widht=1,2"])
