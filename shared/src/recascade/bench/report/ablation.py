"""What each choice of a method is worth: effects of one factor at a time, and the grid of two factors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recascade.bench.report.board import Board
from recascade.bench.report.comparison import Difference, compare
from recascade.bench.report.entry import Entry, typed

MISSING_KEY = object()


@dataclass(frozen=True)
class Effect:
    """One axis set to another value, everything else as in the base.

    Attributes:
        axis: dotted key.
        value: as typed.
        base_value: the base's, as typed.
        entry: the configuration.
        differences: metric → difference to the base, with Holm's correction over all effects of the ablation.
    """

    axis: str
    value: str
    base_value: str
    entry: Entry
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Grid:
    """Two axes, all else equal.

    Attributes:
        rows: dotted key of the vertical axis; its values as typed in ``row_values``.
        columns: dotted key of the horizontal axis; its values as typed in ``column_values``.
        fixed: the other axes with their values in this grid, as typed; empty for two axes.
        cells: entries ``[row][column]``, None where there is no run.
    """

    rows: str
    row_values: Sequence[str]
    columns: str
    column_values: Sequence[str]
    fixed: str
    cells: Sequence[Sequence[Entry | None]]


@dataclass(frozen=True)
class Ablation:
    """All configurations of one method and variant.

    Attributes:
        name: method and variant.
        axes: dotted key → values as typed, numbers ascending.
        base: the configuration that effects are taken to.
        effects: one-factor effects, in order of axes and values.
        grids: heat-maps of the first two axes, one per combination of the others; empty without a complete 2 × 2 block.
        cells: values of the axes, as typed and in their order → configuration.
    """

    name: str
    axes: Mapping[str, Sequence[str]]
    base: Entry
    effects: Sequence[Effect]
    grids: Sequence[Grid]
    cells: Mapping[tuple[str, ...], Entry]


def ablations(board: Board) -> list[Ablation]:
    """An ablation for each method and variant that was run with several sets of changes."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in board.entries:
        groups.setdefault((entry.method, entry.variant), []).append(entry)
    return [_ablation(board, group) for group in groups.values() if len(group) > 1]


def _ablation(board: Board, entries: Sequence[Entry]) -> Ablation:
    keys = dict.fromkeys(key for entry in entries for key in entry.changes)
    settings = {entry.key: {key: _setting(entry, key) for key in keys} for entry in entries}
    axes = {key: _ordered([settings[entry.key][key] for entry in entries]) for key in keys}
    axes = {key: values for key, values in axes.items() if len(values) > 1}
    places = {entry.key: tuple(typed(settings[entry.key][key]) for key in axes) for entry in entries}
    base = _base(entries, places)
    texts = {key: [typed(value) for value in values] for key, values in axes.items()}
    by_place = {places[entry.key]: entry for entry in entries}
    return Ablation(
        name=base.name,
        axes=texts,
        base=base,
        effects=_effects(board, base, texts, places[base.key], by_place),
        grids=_grids(texts, by_place),
        cells=by_place,
    )


def _setting(entry: Entry, key: str) -> Any:
    """The value that a dotted key has in a configuration, overridden or not."""
    value: Any = entry.runs[0].config
    for part in key.split("."):
        value = value.get(part, MISSING_KEY) if isinstance(value, Mapping) else MISSING_KEY
    return entry.overrides.get(key) if value is MISSING_KEY else value


def _ordered(values: Sequence[Any]) -> list[Any]:
    distinct = list({typed(value): value for value in values}.values())
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct)
    return sorted(distinct) if numeric else distinct


def _base(entries: Sequence[Entry], places: Mapping[Any, tuple[str, ...]]) -> Entry:
    """The configuration without changes, else the one that most others differ from in one factor only."""
    for entry in entries:
        if not entry.changes:
            return entry

    def neighbours(entry: Entry) -> int:
        here = places[entry.key]
        return sum(sum(a != b for a, b in zip(here, places[o.key], strict=True)) == 1 for o in entries)

    return max(entries, key=neighbours)


def _effects(
    board: Board,
    base: Entry,
    axes: Mapping[str, Sequence[str]],
    place: tuple[str, ...],
    by_place: Mapping[tuple[str, ...], Entry],
) -> list[Effect]:
    changed = []
    for index, (axis, values) in enumerate(axes.items()):
        for value in values:
            entry = by_place.get((*place[:index], value, *place[index + 1 :]))
            if entry is not None and entry is not base:
                changed.append((axis, value, place[index], entry))
    means = board.user_means
    differences = compare([means[entry.key] for *_, entry in changed], means[base.key]) if changed else []
    return [Effect(*change, difference) for change, difference in zip(changed, differences, strict=True)]


def _grids(axes: Mapping[str, Sequence[str]], by_place: Mapping[tuple[str, ...], Entry]) -> list[Grid]:
    if len(axes) < 2:
        return []
    (rows, row_values), (columns, column_values), *others = axes.items()
    grids = []
    for rest in itertools.product(*(values for _, values in others)):
        cells = [[by_place.get((row, column, *rest)) for column in column_values] for row in row_values]
        if _has_block(cells):
            fixed = " ".join(f"{key}={value}" for (key, _), value in zip(others, rest, strict=True))
            grids.append(Grid(rows, row_values, columns, column_values, fixed, cells))
    return grids


def _has_block(cells: Sequence[Sequence[Entry | None]]) -> bool:
    """Whether two rows share two filled columns; without that a heat-map says no more than the list of effects."""
    filled = [{index for index, cell in enumerate(row) if cell is not None} for row in cells]
    return any(len(one & other) >= 2 for one, other in itertools.combinations(filled, 2))
