"""What the clients of a simulation get, and whether it is what they were promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from recascade_relaygr.relay.requests import PATHS

Floats = npt.NDArray[np.float64]


@dataclass
class Answers:
    """One value per answer, in the order in which they were given.

    Attributes:
        numbers: of the requests.
        paths: how the answers came about.
        served: seconds in the ranking stage, from arrival at the first instance asked.
        total: seconds from the request's arrival at the gateway, slack and messages included.
        tokens: of the long-term history that the scores know of.
        failed: answers without scores.
    """

    numbers: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    failed: int = 0

    def add(self, number: int, path: str, served: float, total: float, tokens: int) -> None:
        """Note an answer."""
        self.numbers.append(number)
        self.paths.append(path)
        self.served.append(served)
        self.total.append(total)
        self.tokens.append(tokens)


@dataclass(frozen=True)
class Objective:
    """What most answers must keep.

    Attributes:
        rank_seconds: of the ranking stage.
        total_seconds: of the whole request.
        share: of all requests.
    """

    rank_seconds: float = 0.05
    total_seconds: float = 0.135
    share: float = 0.99


@dataclass(frozen=True)
class Summary:
    """Figures of the requests that came after the warm-up.

    Attributes:
        requests: how many.
        answered: share of them that got scores.
        kept: share that got scores over their full history within both limits.
        rank_p50: seconds in the ranking stage, median.
        rank_p99: 99th percentile; infinite where more than 1 % got no scores.
        total_p99: seconds of the whole request, likewise.
        paths: share of the answers by path.
        tokens: mean length of the history that the scores know of.
    """

    requests: int
    answered: float
    kept: float
    rank_p50: float
    rank_p99: float
    total_p99: float
    paths: dict[str, float]
    tokens: float


def summarise(answers: Answers, times: Floats, lengths: Floats, warm_up: float, objective: Objective) -> Summary:
    """Work the figures out.

    Args:
        answers: of a simulation that has finished.
        times: arrivals of its requests, ascending.
        lengths: of their histories.
        warm_up: requests that came before this time do not count.
        objective: what is to be kept.
    """
    first = int(np.searchsorted(times, warm_up))
    count = len(times) - first
    numbers = np.asarray(answers.numbers, dtype=np.int64)
    counted = numbers >= first
    served = np.asarray(answers.served)[counted]
    total = np.asarray(answers.total)[counted]
    tokens = np.asarray(answers.tokens)[counted]
    in_full = tokens >= lengths[numbers[counted]]
    kept = in_full & (served <= objective.rank_seconds) & (total <= objective.total_seconds)
    paths = Counter(path for path, counts in zip(answers.paths, counted.tolist(), strict=True) if counts)
    return Summary(
        requests=count,
        answered=len(served) / count if count else 1.0,
        kept=float(kept.sum()) / count if count else 1.0,
        rank_p50=_quantile(served, 0.5, count),
        rank_p99=_quantile(served, 0.99, count),
        total_p99=_quantile(total, 0.99, count),
        paths={path: paths[path] / max(len(served), 1) for path in PATHS},
        tokens=float(tokens.mean()) if len(tokens) else 0.0,
    )


def _quantile(values: Floats, share: float, count: int) -> float:
    """Of ``count`` values, those that are missing being infinite."""
    place = min(int(share * count), count - 1)
    ordered = np.sort(values)
    return float(ordered[place]) if 0 <= place < len(ordered) else float("inf")
