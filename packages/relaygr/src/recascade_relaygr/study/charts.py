"""A chart of several lines as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH, _HEIGHT = 680.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 14.0, 44.0
_MOST_NAMES = 12


@dataclass(frozen=True)
class Line:
    """Means over seeds, with the range of the seeds, one for each place on the horizontal axis."""

    label: str
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def chart(title: str, places: Sequence[str], axis: str, unit: str, lines: Sequence[Line]) -> Markup:
    """Lines over evenly spaced places, each with a band from its lowest to its highest seed.

    Args:
        title: for readers who do not see it.
        places: names on the horizontal axis.
        axis: what they are.
        unit: of the vertical axis.
        lines: at most six, told apart by colour and dash (classes ``line-0`` to ``line-5`` of the style sheet).
    """
    highest = max((value for line in lines for value in line.highs), default=0.0) or 1.0
    step = _round_step(highest / 4)
    top = step * math.ceil(highest / step - 1e-9)
    ticks = [step * number for number in range(round(top / step) + 1)]

    def x(place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place + 0.5) / len(places)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / top)

    marks = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}" {}>{}</text>'
        ).format(
            _LEFT, _WIDTH - _RIGHT, y(tick), y(tick), _LEFT - 8, y(tick) + 4, Markup('text-anchor="end"'), f"{tick:g}"
        )
        for tick in ticks
    ]
    every = math.ceil(len(places) / _MOST_NAMES)
    marks += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x(place), _HEIGHT - 26, name)
        for place, name in enumerate(places)
        if place % every == 0
    ]
    for number, line in enumerate(lines):
        band = [(x(place), y(value)) for place, value in enumerate(line.highs)]
        band += [(x(place), y(value)) for place, value in reversed(list(enumerate(line.lows)))]
        points = [(x(place), y(value)) for place, value in enumerate(line.means)]
        marks.append(Markup('<polygon class="band line-{}" points="{}"/>').format(number, _points(band)))
        marks.append(Markup('<polyline class="line-{}" points="{}"/>').format(number, _points(points)))
        if every == 1:
            marks += [
                Markup('<circle class="line-{}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(number, *at) for at in points
            ]
    legend = Markup().join(
        Markup(
            '<span><svg width="26" height="10"><line class="line-{}" x1="1" x2="25" y1="5" y2="5"/></svg>{}</span>'
        ).format(number, line.label)
        for number, line in enumerate(lines)
    )
    return Markup(
        '<figure><figcaption><b>{}</b><div class="legend">{}</div></figcaption>'
        '<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title>{}'
        '<text class="axis" x="{}" y="{}" text-anchor="end">{} →</text></svg></figure>'
    ).format(unit, legend, _WIDTH, _HEIGHT, title, Markup().join(marks), _WIDTH - _RIGHT, _HEIGHT - 6, axis)


def _round_step(least: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
