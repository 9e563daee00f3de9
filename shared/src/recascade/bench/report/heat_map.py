"""A grid of two ablation axes as a heat-map of one metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recascade.bench.report.ablation import Ablation
from recascade.bench.report.entry import Value
from recascade.bench.report.formatting import higher_is_better


@dataclass(frozen=True)
class HeatCell:
    """One cell: its value, how far it is from the worst to the best of all grids, and whether it is best or base."""

    value: Value | None
    share: float
    best: bool
    base: bool


@dataclass(frozen=True)
class HeatMap:
    """A grid with its axes; ``cells[row][column]``."""

    rows: str
    row_values: Sequence[str]
    columns: str
    column_values: Sequence[str]
    fixed: str
    cells: Sequence[Sequence[HeatCell]]


def heat_maps(ablation: Ablation, metric: str) -> list[HeatMap]:
    """All grids of an ablation, on one scale of tints."""
    sign = 1.0 if higher_is_better(metric) else -1.0
    entries = [cell for grid in ablation.grids for row in grid.cells for cell in row if cell is not None]
    goodness = {entry.key: sign * value.mean for entry in entries if (value := entry.value(metric)) is not None}
    low, high = min(goodness.values()), max(goodness.values())
    best = max(goodness, key=goodness.__getitem__)
    span = high - low or 1.0
    maps = []
    for grid in ablation.grids:
        cells = [
            [
                HeatCell(None, 0.0, False, False)
                if entry is None
                else HeatCell(
                    value=entry.value(metric),
                    share=(goodness.get(entry.key, low) - low) / span,
                    best=entry.key == best,
                    base=entry is ablation.base,
                )
                for entry in row
            ]
            for row in grid.cells
        ]
        maps.append(HeatMap(grid.rows, grid.row_values, grid.columns, grid.column_values, grid.fixed, cells))
    return maps
