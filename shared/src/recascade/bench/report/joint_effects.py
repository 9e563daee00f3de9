"""What choices are worth together: mean effects over all settings of the others, interactions, and the Pareto front."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recascade.bench.report.ablation import Ablation
from recascade.bench.report.board import Board
from recascade.bench.report.comparison import Difference, FloatArray, centred
from recascade.bench.report.entry import Entry
from recascade.bench.report.formatting import higher_is_better

COSTS = ("fit_cpu_seconds", "latency_p50")


@dataclass(frozen=True)
class MeanEffect:
    """One axis set to another value, averaged over every setting of the other axes that both were run at.

    Attributes:
        axis: dotted key.
        value: as typed.
        base_value: the base's.
        settings: how many settings of the other axes.
        differences: metric → mean over the settings; Holm's correction is over all mean effects of the ablation.
        least: metric → the smallest difference among the settings.
        most: metric → the greatest.
    """

    axis: str
    value: str
    base_value: str
    settings: int
    differences: Mapping[str, Difference]
    least: Mapping[str, float]
    most: Mapping[str, float]


@dataclass(frozen=True)
class Interaction:
    """Where the gain of one choice goes when another one is made too.

    Attributes:
        axis: dotted key of the choice that gains.
        value: its value.
        other_axis: dotted key of the other choice.
        other_value: its value.
        settings: settings of the remaining axes that it is averaged over.
        alone: metric → gain of the choice while the other axis is at its base.
        together: metric → its gain when the other choice is made.
        changes: metric → together - alone; positive where both help each other, negative where they do the same work.
            The roles of the two can be exchanged. Holm's correction is over all interactions of the ablation.
    """

    axis: str
    value: str
    other_axis: str
    other_value: str
    settings: int
    alone: Mapping[str, float]
    together: Mapping[str, float]
    changes: Mapping[str, Difference]


@dataclass(frozen=True)
class JointEffects:
    """Of an ablation with several axes.

    Attributes:
        means: effects averaged over the other axes.
        interactions: of every pair of values that was run in a complete 2 × 2 block with the base's.
        fronts: metric → the configurations that no other one beats in quality without costing more to fit or to ask,
            cheapest first.
    """

    means: Sequence[MeanEffect]
    interactions: Sequence[Interaction]
    fronts: Mapping[str, Sequence[Entry]]


def joint_effects(board: Board, ablation: Ablation) -> JointEffects | None:
    """None where nothing was run together: one axis, or one factor at a time."""
    metrics = board.metrics
    values = {place: board.user_means[entry.key].values for place, entry in ablation.cells.items()}
    base = next(place for place, entry in ablation.cells.items() if entry is ablation.base)
    axes = list(ablation.axes)
    changed = [(axis, value) for axis, key in enumerate(axes) for value in ablation.axes[key] if value != base[axis]]
    pairs = [
        (one, other, blocks)
        for one, other in itertools.combinations(changed, 2)
        if one[0] != other[0] and (blocks := _blocks(values, base, one, other))
    ]
    if not pairs:
        return None
    single = [(one, _steps(values, base, one)) for one in changed]
    mean_differences = centred([np.mean(steps, axis=0) for _, steps in single], metrics)
    alone = [np.mean([block[0] for block in blocks], axis=0) for *_, blocks in pairs]
    together = [np.mean([block[1] for block in blocks], axis=0) for *_, blocks in pairs]
    changes = centred([after - before for before, after in zip(alone, together, strict=True)], metrics)
    return JointEffects(
        means=[
            MeanEffect(axes[axis], value, base[axis], len(steps), difference, *_range(steps, metrics))
            for ((axis, value), steps), difference in zip(single, mean_differences, strict=True)
        ],
        interactions=[
            Interaction(
                axes[one[0]],
                one[1],
                axes[other[0]],
                other[1],
                len(blocks),
                _means(before, metrics),
                _means(after, metrics),
                change,
            )
            for (one, other, blocks), before, after, change in zip(pairs, alone, together, changes, strict=True)
        ],
        fronts={metric: pareto_front(list(ablation.cells.values()), metric) for metric in metrics},
    )


def pareto_front(entries: Sequence[Entry], metric: str) -> list[Entry]:
    """The entries that no other one is at least as good as in quality and every cost, and better in one; cheapest fit
    first. Entries that lack a value take no part."""
    sign = 1 if higher_is_better(metric) else -1
    measured = []
    for entry in entries:
        quality = entry.value(metric)
        if quality is not None and all(name in entry.cost for name in COSTS):
            measured.append((entry, (sign * quality.mean, *(-entry.cost[name].mean for name in COSTS))))

    def beaten(one: tuple[float, ...]) -> bool:
        return any(other != one and all(b >= a for a, b in zip(one, other, strict=True)) for _, other in measured)

    front = [(entry, values) for entry, values in measured if not beaten(values)]
    return [entry for entry, values in sorted(front, key=lambda found: -found[1][1])]


Place = tuple[str, ...]
Choice = tuple[int, str]


def _with(place: Place, *choices: Choice) -> Place:
    changed = list(place)
    for axis, value in choices:
        changed[axis] = value
    return tuple(changed)


def _steps(values: Mapping[Place, FloatArray], base: Place, choice: Choice) -> list[FloatArray]:
    """Per-user gains of a choice at every setting of the other axes."""
    axis = choice[0]
    return [
        values[_with(place, choice)] - values[place]
        for place in values
        if place[axis] == base[axis] and _with(place, choice) in values
    ]


def _blocks(
    values: Mapping[Place, FloatArray], base: Place, one: Choice, other: Choice
) -> list[tuple[FloatArray, FloatArray]]:
    """Per-user gains of ``one`` without and with ``other``, at every setting of the remaining axes."""
    found = []
    for place in values:
        if place[one[0]] == base[one[0]] and place[other[0]] == base[other[0]]:
            corners = [_with(place, one), _with(place, other), _with(place, one, other)]
            if all(corner in values for corner in corners):
                found.append((values[corners[0]] - values[place], values[corners[2]] - values[corners[1]]))
    return found


def _means(values: FloatArray, metrics: Sequence[str]) -> dict[str, float]:
    return dict(zip(metrics, np.nanmean(values, axis=0).tolist(), strict=True))


def _range(steps: Sequence[FloatArray], metrics: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    each = np.array([np.nanmean(step, axis=0) for step in steps])
    return (
        dict(zip(metrics, each.min(axis=0).tolist(), strict=True)),
        dict(zip(metrics, each.max(axis=0).tolist(), strict=True)),
    )
