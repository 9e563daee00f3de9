"""Axes: round tick values and positions in per cent of the plot area."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from ``low`` to ``high``."""

    low: float
    high: float
    logarithmic: bool = False

    def position(self, value: float) -> float:
        """Per cent of the way from ``low`` to ``high``, clipped to the axis."""
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return 100.0 * min(max(share, 0.0), 1.0)

    @cached_property
    def ticks(self) -> list[float]:
        """Three to seven round values on the axis."""
        return _logarithmic_ticks(self.low, self.high) if self.logarithmic else linear_ticks(self.low, self.high)


def linear_scale(values: Sequence[float], *, include: Sequence[float] = (), margin: float = 0.06) -> Scale:
    """An axis that holds all values with a margin at both ends, which stops at 0 where no value is below 0."""
    everything = [*values, *include]
    low, high = min(everything), max(everything)
    room = margin * (high - low) or max(abs(high), 1e-12) * 0.5
    return Scale(max(low - room, 0.0) if low >= 0.0 else low - room, high + room)


def logarithmic_scale(values: Sequence[float], *, margin: float = 0.08) -> Scale:
    """A logarithmic axis that holds all positive values with a margin at both ends, over a factor of ten at least."""
    low, high = math.log10(min(values)), math.log10(max(values))
    missing = max(1.0 - (high - low), 0.0) / 2
    room = margin * max(high - low, 1.0) + missing
    return Scale(10.0 ** (low - room), 10.0 ** (high + room), logarithmic=True)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within the range, at most ``most`` of them.

    >>> linear_ticks(0.0, 0.11)
    [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in STEPS:
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= 7:
            return inside
    stride = math.ceil(len(inside) / 6)
    return inside[::stride]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """All ticks of an axis with the same number of decimals, large ones with k or M.

    >>> tick_texts([0.0, 0.05, 0.1])
    ['0', '0.05', '0.10']
    """
    positive = [abs(tick) for tick in ticks if tick]
    if positive and max(positive) / min(positive) >= 50:
        return [_short(tick) for tick in ticks]
    decimals = max((len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)
    return [_short(tick) if abs(tick) >= 1000 else "0" if tick == 0 else f"{tick:.{decimals}f}" for tick in ticks]


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
