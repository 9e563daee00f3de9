"""What an instance counts: answers by path, signals by what became of them, and how long answers took."""

from __future__ import annotations

from collections import Counter, deque

from recascade_relaygr.relay.requests import PATHS, Outcome

_LATEST = 8192


class Statistics:
    """Counters, and the latest 8,192 durations.

    Attributes:
        paths: answers by path.
        signals: by what became of them: ``started``, ``hit``, ``joined``, ``late``, ``refused``.
        fills: by kind and end: ``prefill``, ``reload``, ``copy``, and each with ``-failed``, ``-cancelled``.
        errors: answers that could not be given.
    """

    def __init__(self) -> None:
        self.paths: Counter[str] = Counter()
        self.signals: Counter[str] = Counter()
        self.fills: Counter[str] = Counter()
        self.errors = 0
        self._served: deque[float] = deque(maxlen=_LATEST)

    def record(self, outcome: Outcome) -> None:
        """Count an answer."""
        if outcome.error is not None:
            self.errors += 1
            return
        self.paths[outcome.path] += 1
        self._served.append(outcome.served)

    def shares(self) -> dict[str, float]:
        """Answers by path, as shares of all."""
        answers = sum(self.paths.values())
        return {path: self.paths[path] / answers if answers else 0.0 for path in PATHS}

    def quantiles(self, *shares: float) -> tuple[float, ...]:
        """Of the latest answers' seconds in the instance; 0 without any."""
        ordered = sorted(self._served) or [0.0]
        return tuple(ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in shares)
