"""Places names beside the points of a scatter plot so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

CHARACTER_WIDTH = 6.7
LINE_HEIGHT = 14.0
POINT_RADIUS = 6.0

# Where a name may stand, best first: anchor, shift of the text's anchor and of its middle line, in pixels.
PLACES: tuple[tuple[Literal["start", "middle", "end"], float, float], ...] = (
    ("start", 10.0, 0.0),
    ("end", -10.0, 0.0),
    ("middle", 0.0, -15.0),
    ("middle", 0.0, 15.0),
    ("start", 7.0, -12.0),
    ("start", 7.0, 12.0),
    ("end", -7.0, -12.0),
    ("end", -7.0, 12.0),
    ("start", 6.0, -22.0),
    ("start", 6.0, 22.0),
    ("end", -6.0, -22.0),
    ("end", -6.0, 22.0),
    ("middle", 0.0, -29.0),
    ("middle", 0.0, 29.0),
)
# A covered point is worse than a covered bit of text, and a name outside the plot worse than either.
COVERED_POINT = 3.0
OUTSIDE = 4.0


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0.0 and height > 0.0 else 0.0


@dataclass(frozen=True)
class Place:
    """Where a name stands, relative to its point in pixels."""

    anchor: Literal["start", "middle", "end"]
    right: float
    down: float


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], width: float, height: float
) -> list[Place]:
    """A place for each name, in the order given: earlier names get the better places.

    Points move apart on a wider page while text keeps its size, so places that are free at the smallest ``width`` stay
    free.

    Args:
        points: N positions in pixels from the upper left corner of the plot.
        names: N texts.
        width: of the plot, in pixels, at its narrowest.
        height: of the plot, in pixels.
    """
    discs = [Box(x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS) for x, y in points]
    taken: list[Box] = []
    frame = Box(0.0, 0.0, width, height)
    places = []
    for (x, y), name in zip(points, names, strict=True):
        best, box = min(
            ((Place(*place), _box(x, y, name, Place(*place))) for place in PLACES),
            key=lambda candidate: _cost(candidate[1], taken, discs, frame),
        )
        taken.append(box)
        places.append(best)
    return places


def _box(x: float, y: float, name: str, place: Place) -> Box:
    width = CHARACTER_WIDTH * len(name)
    left = x + place.right - {"start": 0.0, "middle": width / 2, "end": width}[place.anchor]
    middle = y + place.down
    return Box(left, middle - LINE_HEIGHT / 2, left + width, middle + LINE_HEIGHT / 2)


def _cost(box: Box, taken: Sequence[Box], discs: Sequence[Box], frame: Box) -> float:
    area = (box.right - box.left) * (box.bottom - box.top)
    covered = sum(map(box.overlap, taken)) + COVERED_POINT * sum(map(box.overlap, discs))
    return covered + OUTSIDE * (area - box.overlap(frame))
