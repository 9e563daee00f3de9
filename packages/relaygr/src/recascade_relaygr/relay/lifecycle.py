"""How long a prefix is promised to stay: the time that nearly every request takes from its signal to its answer."""

from __future__ import annotations

from recascade_relaygr.relay.config import CacheConfig
from recascade_relaygr.relay.observed_quantile import ObservedQuantile

_SHARE = 0.999


class LifecycleWindow:
    """``q99.9(slack) + ranking budget + margin``, re-estimated every ten seconds, within
    ``[2 · ranking budget, longest]`` (our formula; that such a window exists is the project's requirement).

    Args:
        config: of the cache.
        rank_budget: seconds.
        now: clock time.
    """

    def __init__(self, config: CacheConfig, rank_budget: float, now: float) -> None:
        self._rest = rank_budget + config.margin_ms / 1e3
        self._least = 2 * rank_budget
        self._most = max(config.longest_window_ms / 1e3, self._least)
        self._slack = ObservedQuantile(_SHARE, config.window_ms / 1e3 - self._rest, now)

    @property
    def seconds(self) -> float:
        """The window of admissions from now on."""
        return min(max(self._slack.value + self._rest, self._least), self._most)

    def observe(self, slack: float, now: float) -> None:
        """Note the seconds between a signal and its ranking request."""
        self._slack.observe(slack, now)
