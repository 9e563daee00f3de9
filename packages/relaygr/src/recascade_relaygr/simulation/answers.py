"""What the clients of a simulation get, and whether it is what they were promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from recascade_relaygr.relay.requests import PATHS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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
        whole_history: whether scores over a shortened history are none.
    """

    rank_seconds: float = 0.05
    total_seconds: float = 0.135
    share: float = 0.99
    whole_history: bool = True


@dataclass(frozen=True)
class Summary:
    """Figures of the requests that came after the warm-up.

    Attributes:
        requests: how many.
        answered: share of them that got scores.
        kept: share that got what the objective asks for.
        rank_p50: seconds in the ranking stage, median.
        rank_p99: 99th percentile.
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


def summarise(answers: Answers, times: Floats, lengths: Integers, warm_up: float, objective: Objective) -> Summary:
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
    kept = (served <= objective.rank_seconds) & (total <= objective.total_seconds)
    if objective.whole_history:
        kept &= tokens >= lengths[numbers[counted]]
    paths = Counter(path for path, counts in zip(answers.paths, counted.tolist(), strict=True) if counts)
    return Summary(
        requests=count,
        answered=len(served) / count if count else 1.0,
        kept=float(kept.sum()) / count if count else 1.0,
        rank_p50=_quantile(served, 0.5),
        rank_p99=_quantile(served, 0.99),
        total_p99=_quantile(total, 0.99),
        paths={path: paths[path] / max(len(served), 1) for path in PATHS},
        tokens=float(tokens.mean()) if len(tokens) else 0.0,
    )


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 0.0
