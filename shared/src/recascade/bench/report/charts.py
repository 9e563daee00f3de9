"""Charts as inline SVG.

A chart fills the width of the page: positions are per cent of the plot area, while text and points keep their size in
pixels. Axis texts stand outside the plot area, in margins that the style sheet reserves. The style sheet also has the
colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from recascade.bench.report.labels import place_labels
from recascade.bench.report.scales import Scale, linear_scale, linear_ticks, logarithmic_scale, tick_texts

# Least width of the plot area in pixels: on a telephone, and on a page wide enough for two charts side by side.
# The style sheet shows the names placed for one or the other.
PLOT_WIDTHS = {"narrow": 265.0, "wide": 440.0}
SCATTER_HEIGHT = 300.0
CURVE_HEIGHT = 116.0
SMALLEST_COST = 1e-3
# Height of the middle of a table row's first line in pixels.
INTERVAL_MIDDLE = 17
NOTHING = Markup()


@dataclass(frozen=True)
class Point:
    """One configuration in the quality-against-cost plot.

    Attributes:
        name: written beside the point.
        cost: position on the logarithmic axis.
        quality: position on the vertical axis.
        deviation: of the quality over seeds, drawn as a bar to both sides; None for none.
        trained: filled point, else hollow.
        description: shown when the pointer rests on the point.
    """

    name: str
    cost: float
    quality: float
    deviation: float | None
    trained: bool
    description: str


@dataclass(frozen=True)
class Line:
    """One training curve: x and y of its points, and the point that was kept."""

    x: Sequence[float]
    y: Sequence[float]
    kept: tuple[float, float] | None = None


def scatter(points: Sequence[Point], cost_label: str, quality_label: str) -> Markup:
    """Quality against cost on a logarithmic axis, with the Pareto front of what nothing beats in both."""
    costs = [max(point.cost, SMALLEST_COST) for point in points]
    x_scale = logarithmic_scale(costs)
    bars = [point.quality + sign * (point.deviation or 0.0) for point in points for sign in (-1, 1)]
    y_scale = linear_scale(bars, margin=0.1)
    front = pareto_front([(cost, point.quality) for cost, point in zip(costs, points, strict=True)])
    order = sorted(range(len(points)), key=lambda index: (index not in front, costs[index]))
    positions = {
        index: (x_scale.position(costs[index]), 100.0 - y_scale.position(points[index].quality)) for index in order
    }
    marks = [_axes(x_scale, y_scale), _front(sorted(positions[index] for index in front))]
    for index in order:
        point, (x, y) = points[index], positions[index]
        if point.deviation:
            low, high = (100 - y_scale.position(point.quality + sign * point.deviation) for sign in (-1, 1))
            marks.append(_line(x, low, x, high, "bar"))
        marks.append(
            Markup('<g class="point {}"><title>{}</title><circle cx="{:.2f}%" cy="{:.2f}%" r="5"/></g>').format(
                _kind(point, index in front), point.description, x, y
            )
        )
    for page, width in PLOT_WIDTHS.items():
        pixels = [(positions[i][0] * width / 100, positions[i][1] * SCATTER_HEIGHT / 100) for i in order]
        places = place_labels(pixels, [points[index].name for index in order], width, SCATTER_HEIGHT)
        names = [
            Markup('<text class="{}" x="{:.2f}%" y="{:.2f}%" dx="{:g}" dy="{:g}" text-anchor="{}">{}</text>').format(
                _kind(points[i], i in front), *positions[i], place.right, place.down + 4, place.anchor, points[i].name
            )
            for i, place in zip(order, places, strict=True)
        ]
        marks.append(Markup('<g class="names {}">{}</g>').format(page, Markup().join(names)))
    title = f"{quality_label} against {cost_label}"
    return _chart("scatter", title, marks, x_title=f"{cost_label}, logarithmic", y_title=quality_label)


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the (cost, quality) points that no other point beats in one respect without losing in the other."""
    front: set[int] = set()
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if points[index][1] > best:
            front.add(index)
            best = points[index][1]
    return front


def curves(
    lines: Sequence[Line], x_scale: Scale, y_scale: Scale, *, label: str, x_label: str, background: Markup = NOTHING
) -> Markup:
    """Training curves of one configuration, one line per seed; ``background`` shows the others' faintly."""
    marks = [_axes(x_scale, y_scale), background]
    marks += [_path(line, x_scale, y_scale, "curve") for line in lines]
    for line in lines:
        if line.kept is not None:
            x, y = x_scale.position(line.kept[0]), 100 - y_scale.position(line.kept[1])
            marks.append(Markup('<circle class="kept" cx="{:.2f}%" cy="{:.2f}%" r="3.5"/>').format(x, y))
    return _chart("curves", f"{label} by {x_label}", marks, x_title=x_label, y_title=label)


def shared_background(name: str, lines: Sequence[Line], x_scale: Scale, y_scale: Scale) -> Markup:
    """All curves once, hidden, to be drawn behind each small chart with ``use_background``."""
    paths = Markup().join(_path_data(line, x_scale, y_scale) for line in lines)
    return Markup('<svg class="defs" aria-hidden="true"><defs><path id="{}" d="{}"/></defs></svg>').format(name, paths)


def use_background(name: str) -> Markup:
    """Draw what ``shared_background`` stored under this name."""
    return _stretched(Markup('<use href="#{}" class="others"/>').format(name))


def interval(mean: float, low: float, high: float, scale: Scale, kind: str) -> Markup:
    """A difference with its interval on the axis of its column; ``kind`` is better, worse or open."""
    whisker = Markup('<line class="whisker" x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/>').format(
        scale.position(low), scale.position(high), y=INTERVAL_MIDDLE
    )
    return _interval_cell(kind, scale, whisker, mean)


def interval_zero(scale: Scale) -> Markup:
    """The row of the reference: only the zero line and a ring on it."""
    return _interval_cell("reference", scale, Markup(), 0.0)


def interval_axis(scale: Scale) -> Markup:
    """Tick values of a column of intervals, for its head."""
    # A tick at the very end would run into the heading of the next column.
    ticks = [tick for tick in linear_ticks(scale.low, scale.high, most=4) if 9.0 < scale.position(tick) < 91.0]
    texts = [
        Markup('<text x="{:.2f}%" y="11" text-anchor="middle">{}</text>').format(scale.position(tick), text)
        for tick, text in zip(ticks, _signed_ticks(ticks), strict=True)
    ]
    return Markup('<svg class="interval-axis" width="100%" height="14" aria-hidden="true">{}</svg>').format(
        Markup().join(texts)
    )


def _interval_cell(kind: str, scale: Scale, whisker: Markup, mean: float) -> Markup:
    return Markup(
        '<svg class="interval {}" width="100%" height="100%" aria-hidden="true">{}{}'
        '<circle cx="{:.2f}%" cy="{}" r="4.5"/></svg>'
    ).format(
        kind,
        _line(scale.position(0.0), 0, scale.position(0.0), 100, "zero"),
        whisker,
        scale.position(mean),
        INTERVAL_MIDDLE,
    )


def interval_scale(ends: Sequence[float]) -> Scale:
    """An axis for a column of intervals, which always holds zero."""
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    room = 0.08 * (high - low) or 1e-3
    return Scale(low - room, high + room)


def _signed_ticks(ticks: Sequence[float]) -> list[str]:
    texts = tick_texts(ticks)
    return [f"+{text}" if tick > 0 else text.replace("-", "−") for tick, text in zip(ticks, texts, strict=True)]


def _chart(kind: str, title: str, marks: Sequence[Markup], *, x_title: str, y_title: str) -> Markup:
    return Markup(
        '<div class="chart {kind}"><svg role="img" width="100%" height="100%"><title>{title}</title>{marks}'
        '<text class="axis-title" x="0" y="0" dx="-48" dy="-14">{y_title}</text>'
        '<text class="axis-title" x="100%" y="100%" dy="36" text-anchor="end">{x_title} →</text></svg></div>'
    ).format(kind=kind, title=title, marks=Markup().join(marks), x_title=x_title, y_title=y_title)


def _axes(x_scale: Scale, y_scale: Scale) -> Markup:
    marks = []
    for tick, text in zip(y_scale.ticks, tick_texts(y_scale.ticks), strict=True):
        y = 100 - y_scale.position(tick)
        marks.append(_line(0, y, 100, y, "grid"))
        marks.append(Markup('<text class="tick" x="-8" y="{:.2f}%" dy="4" text-anchor="end">{}</text>').format(y, text))
    marks.append(_line(0, 100, 100, 100, "axis"))
    for tick, text in zip(x_scale.ticks, tick_texts(x_scale.ticks), strict=True):
        x = x_scale.position(tick)
        marks.append(
            Markup(
                '<rect class="notch" x="{0:.2f}%" y="100%" width="1" height="4"/>'
                '<text class="tick" x="{0:.2f}%" y="100%" dy="18" text-anchor="middle">{1}</text>'
            ).format(x, text)
        )
    return Markup().join(marks)


def _kind(point: Point, on_front: bool) -> str:
    return f"{'trained' if point.trained else 'untrained'}{' front' if on_front else ''}"


def _front(positions: Sequence[tuple[float, float]]) -> Markup:
    (x, y), *rest = positions
    steps = f"M{x:.2f} {y:.2f}" + "".join(f"H{x:.2f}V{y:.2f}" for x, y in rest) + "H100"
    return _stretched(Markup('<path class="pareto" d="{}"/>').format(steps))


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.2f}%" y1="{:.2f}%" x2="{:.2f}%" y2="{:.2f}%"/>').format(kind, x1, y1, x2, y2)


def _path(line: Line, x_scale: Scale, y_scale: Scale, kind: str) -> Markup:
    return _stretched(Markup('<path class="{}" d="{}"/>').format(kind, _path_data(line, x_scale, y_scale)))


def _path_data(line: Line, x_scale: Scale, y_scale: Scale) -> str:
    points = [f"{x_scale.position(x):.2f} {100 - y_scale.position(y):.2f}" for x, y in zip(line.x, line.y, strict=True)]
    return "M" + "L".join(points) if points else ""


def _stretched(marks: Markup) -> Markup:
    """Marks in per cent coordinates, stretched over the plot area; strokes keep their width."""
    return Markup('<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">{}</svg>').format(
        marks
    )
