"""What each kind of work costs: tables measured at start-up and corrected by what is observed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from recascade.errors import ConfigurationError
from recascade_relaygr.relay.device import Work
from recascade_relaygr.relay.requests import Sizes

_STEP = 0.02


class CostTable:
    """A quantile of a duration by length of the prefix and number of candidates.

    Values between grid points are interpolated; beyond the last they grow in proportion to the last step. Observations
    move the nearest grid point above by stochastic approximation of the quantile (our choice), and a longer prefix
    never costs less than a shorter one.

    Args:
        lengths: ascending numbers of prefix tokens, at least one.
        candidates: ascending numbers of candidates, at least one.
        seconds: ``seconds[i][j]`` for ``lengths[i]`` and ``candidates[j]``.
        quantile: which one, in (0, 1).

    Raises:
        ConfigurationError: the table does not fit its grid.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        candidates: Sequence[int],
        seconds: Sequence[Sequence[float]],
        quantile: float = 0.99,
    ) -> None:
        if not lengths or len(seconds) != len(lengths) or any(len(row) != len(candidates) for row in seconds):
            raise ConfigurationError(
                f"A table of costs has {len(lengths)} lengths and {len(candidates)} numbers of candidates, but not as "
                "many rows and columns."
            )
        self.lengths = list(lengths)
        self.candidates = list(candidates)
        self.quantile = quantile
        self._raw = [list(row) for row in seconds]
        self._monotone = [list(row) for row in seconds]
        for column in range(len(candidates)):
            self._restore_order(column)

    @classmethod
    def measured(
        cls,
        measure: Callable[[int, int], float],
        lengths: Sequence[int],
        candidates: Sequence[int] = (1,),
        quantile: float = 0.99,
    ) -> CostTable:
        """A table filled by asking ``measure(length, candidates)`` for the seconds at each grid point."""
        return cls(lengths, candidates, [[measure(n, c) for c in candidates] for n in lengths], quantile)

    def seconds(self, length: int, candidates: int = 1) -> float:
        """The predicted quantile."""
        low, high, share = _between(self.lengths, length)
        left, right, across = _between(self.candidates, candidates)
        rows = self._monotone
        before = rows[low][left] + share * (rows[high][left] - rows[low][left])
        if left == right:
            return max(before, 0.0)
        after = rows[low][right] + share * (rows[high][right] - rows[low][right])
        return max(before + across * (after - before), 0.0)

    def observe(self, length: int, candidates: int, seconds: float) -> None:
        """Learn from one duration."""
        row = min(bisect_left(self.lengths, length), len(self.lengths) - 1)
        column = min(bisect_left(self.candidates, candidates), len(self.candidates) - 1)
        value = self._raw[row][column]
        # Rises q/(1-q) times as fast as it falls, so that it rests where a share q of the observations lies below.
        step = self.quantile if seconds > value else self.quantile - 1.0
        self._raw[row][column] = value * (1.0 + _STEP * step)
        self._restore_order(column)

    def longest(self, budget: float, candidates: int, most: int) -> int:
        """The longest prefix, at most ``most``, that keeps within ``budget`` seconds; 0 where none does."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.seconds(middle, candidates) <= budget:
                low = middle
            else:
                high = middle - 1
        return low

    def _restore_order(self, column: int) -> None:
        highest = 0.0
        for raw, monotone in zip(self._raw, self._monotone, strict=True):
            highest = max(highest, raw[column])
            monotone[column] = highest


def _between(grid: list[int], value: int) -> tuple[int, int, float]:
    """Two neighbouring places of the grid and how far from the first to the second the value lies (may exceed 1)."""
    if len(grid) == 1:
        return 0, 0, 0.0
    high = min(max(bisect_left(grid, value), 1), len(grid) - 1)
    low = high - 1
    return low, high, max((value - grid[low]) / (grid[high] - grid[low]), 0.0)


class Costs:
    """The four durations that the relay predicts with, each a ``CostTable``.

    Args:
        full: full inference by prefix tokens and candidates.
        rank: ranking on a stored prefix, likewise.
        prefill: running a prefix, by its tokens.
        reload: bringing a prefix back from host memory, by its tokens.
    """

    def __init__(self, full: CostTable, rank: CostTable, prefill: CostTable, reload: CostTable) -> None:
        self.full_table = full
        self.rank_table = rank
        self.prefill_table = prefill
        self.reload_table = reload

    def full(self, sizes: Sizes) -> float:
        """Seconds of full inference."""
        return self.full_table.seconds(sizes.prefix, sizes.candidates)

    def rank(self, sizes: Sizes) -> float:
        """Seconds of ranking on a stored prefix."""
        return self.rank_table.seconds(sizes.prefix, sizes.candidates)

    def prefill(self, tokens: int, begin: int = 0) -> float:
        """Seconds of running tokens ``begin`` to ``tokens`` of a prefix."""
        return max(self.prefill_table.seconds(tokens) - (self.prefill_table.seconds(begin) if begin else 0.0), 0.0)

    def reload(self, tokens: int) -> float:
        """Seconds of bringing a prefix back."""
        return self.reload_table.seconds(tokens)

    def observe(self, work: Work, seconds: float) -> None:
        """Learn from how long a work took, unless it was a chunk of a prefix: the sum of the chunks' 99th percentiles
        is far above that of their sum, so ``prefill_table`` learns from whole prefixes."""
        if work.kind == "reload":
            self.reload_table.observe(work.end, 1, seconds)
        elif work.kind in ("rank", "full"):
            table = self.rank_table if work.kind == "rank" else self.full_table
            table.observe(work.sizes.prefix, work.sizes.candidates, seconds)
