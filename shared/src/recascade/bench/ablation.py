"""Ablations: one method, its settings varied along axes, as a full grid or one factor at a time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from recascade.bench.config import RunConfig
from recascade.bench.registry import find_method
from recascade.bench.suite import configs_of
from recascade.errors import ConfigurationError
from recascade.settings import parse_value

VARIANT_AXIS = "variant"
_SECTIONS = ("split", "model", "trainer", "evaluation", "lists")


def ablation_configs(
    method_name: str,
    axes: Sequence[str],
    data: str,
    variant: str,
    seeds: int,
    one_factor: bool,
) -> list[RunConfig]:
    """The runs of an ablation, the unchanged method first.

    Args:
        method_name: the method.
        axes: texts ``key=value,value…``; one value fixes a key for all runs. Without any axis of several values, those
            that the method declares are varied one at a time.
        data: a data set's name or path.
        variant: the variant that is varied.
        seeds: seeds per point.
        one_factor: vary one axis at a time, the others at their default, instead of all combinations.
    """
    method = find_method(method_name)
    values = parse_axes(axes)
    fixed = {key: members[0] for key, members in values.items() if len(members) == 1}
    varied: dict[str, Sequence[Any]] = {key: members for key, members in values.items() if len(members) > 1}
    if not varied:
        if not method.axes:
            raise ConfigurationError(
                f"Method {method.name!r} declares no ablation axes; give one, as model.dimension=32,64."
            )
        varied = {_qualified(key): members for key, members in method.axes.items()}
        one_factor = True
    points = one_factor_points(varied) if one_factor else grid_points(varied)
    return [
        config
        for point in points
        for config in configs_of(
            method_name,
            data,
            str(point.get(VARIANT_AXIS, fixed.get(VARIANT_AXIS, variant))),
            seeds,
            {key: value for key, value in (fixed | point).items() if key != VARIANT_AXIS},
        )
    ]


def grid_points(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last axis fastest.

    >>> grid_points({"a": [1, 2], "b": [3]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def one_factor_points(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The unchanged method, then each value of each axis alone.

    >>> one_factor_points({"a": [1, 2], "b": [3, 4]})
    [{}, {'a': 1}, {'a': 2}, {'b': 3}, {'b': 4}]
    """
    return [{}, *({key: value} for key, values in axes.items() for value in values)]


def parse_axes(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Axes as typed: key → values. Commas inside brackets or quotes belong to a value.

    Raises:
        ConfigurationError: a text without ``=``, an axis given twice or without a value.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        key, separator, values = text.partition("=")
        if not key.strip() or not separator or not values.strip():
            raise ConfigurationError(f"{text!r} is not an axis; write key=value,value, as model.dimension=32,64.")
        key = _qualified(key.strip())
        if key in axes:
            raise ConfigurationError(f"The axis {key!r} is given twice; write all its values in one place.")
        axes[key] = parse_value(key, f"[{values}]")
    return axes


def _qualified(key: str) -> str:
    """Keys outside the sections are keys of the method's own configuration."""
    return key if key == VARIANT_AXIS or key.partition(".")[0] in _SECTIONS else f"model.{key}"
