"""The data card: one HTML page that shows what regeneration did to a domain's training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray

from recascade.data.dataset import Dataset
from recascade.files import write_atomically
from recascade_taesar.profile import Profile, profiles

FILE = "card.html"
# The plot area of the template, in its own units.
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 550.0, 20.0, 180.0


@dataclass(frozen=True)
class Chart:
    """Two curves on common axes: texts, and ``curves``, the class of each with its points as SVG wants them."""

    title: str
    text: str
    left: str
    right: str
    top: str
    curves: tuple[tuple[str, str], ...]


def write_card(dataset: Dataset) -> None:
    """Write ``card.html`` into the folder of a regenerated data set."""
    before, after, origins = profiles(dataset)
    pages = Environment(loader=PackageLoader("recascade_taesar"), autoescape=True)
    page = pages.get_template(FILE).render(
        name=dataset.name,
        source=dataset.facts["source"],
        seed=dataset.facts["seed"],
        synthetic=dataset.synthetic,
        rows=_rows(before, after, origins),
        charts=[_frequencies(before, after), _lengths(before, after)],
    )
    with write_atomically(dataset.path / FILE) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _rows(before: Profile, after: Profile, origins: dict[str, int]) -> list[tuple[str, str, str]]:
    names = ("events", "rows", "events per row", "items", "head share", "middle share", "tail share")
    rows = list(zip(names, _described(before), _described(after), strict=True))
    return rows + [(f"{origin} events", "", f"{count:,}") for origin, count in origins.items()]


def _described(profile: Profile) -> list[str]:
    mean = profile.lengths.mean() if len(profile.lengths) else 0.0
    counts = (f"{profile.lengths.sum():,}", f"{len(profile.lengths):,}", f"{mean:.1f}", f"{len(profile.frequencies):,}")
    return [*counts, *(f"{share:.1%}" for share in profile.shares.values())]


def _frequencies(before: Profile, after: Profile) -> Chart:
    curves = []
    for profile in (before, after):
        # Some 200 places, evenly on the logarithmic axis, draw the same curve as all of them.
        places = np.unique(np.geomspace(1, max(len(profile.frequencies), 1), 200).astype(np.int64))
        places = places[places <= len(profile.frequencies)]
        curves.append((np.log10(places), np.log10(profile.frequencies[places - 1])))
    items = max(len(before.frequencies), len(after.frequencies))
    most = max((int(profile.frequencies[0]) for profile in (before, after) if len(profile.frequencies)), default=0)
    return Chart(
        "How often items occur",
        "Events of each item, in order of frequency; both axes are logarithmic.",
        "rank 1",
        f"rank {items:,}",
        f"{most:,} events",
        _drawn(curves),
    )


def _lengths(before: Profile, after: Profile) -> Chart:
    ends = [int(np.quantile(profile.lengths, 0.99)) for profile in (before, after) if len(profile.lengths)]
    longest = max(ends, default=1)
    edges = np.unique(np.linspace(1, longest + 1, min(longest, 40) + 1).astype(np.int64))
    curves = []
    for profile in (before, after):
        shares = np.histogram(profile.lengths, edges)[0] / np.diff(edges) / max(len(profile.lengths), 1)
        curves.append(((edges[:-1] + edges[1:] - 1) / 2, shares))
    most = max(float(shares.max()) for _, shares in curves)
    return Chart(
        "How long rows are",
        "Share of the rows by length, without the longest hundredth.",
        "1 event",
        f"{longest:,} events",
        f"{most:.1%} of the rows",
        _drawn(curves),
    )


def _drawn(curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> tuple[tuple[str, str], ...]:
    """The curves scaled to the plot area, whose lower left corner is (0, 0)."""
    widest = max((float(x.max()) for x, _ in curves if len(x)), default=0.0) or 1.0
    highest = max((float(y.max()) for _, y in curves if len(y)), default=0.0) or 1.0
    drawn = []
    for kind, (x, y) in zip(("before", "after"), curves, strict=True):
        across = _LEFT + x / widest * (_RIGHT - _LEFT)
        down = _BOTTOM - y / highest * (_BOTTOM - _TOP)
        drawn.append((kind, " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))))
    return tuple(drawn)
