"""Before a ranker may relay: does running the prefix ahead of time change its scores?

The paper bounds the deviation by a small number; which designs keep the bound is our finding. Fails, for example: a
normaliser that depends on the length read so far, events that see later ones, positions counted back from the newest
event, states that know the time of the query.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recascade.contracts.context import Context
from recascade.contracts.ranker import PrefixRanker
from recascade.errors import ConfigurationError

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""The largest deviation of a score, by the precision of the states (our choice)."""

_DAY = 86_400


class PrefixUnsafeError(ConfigurationError):
    """The ranker's scores change when a prefix is run ahead of time."""


def prefix_error(
    ranker: PrefixRanker,
    items: int,
    *,
    lengths: Sequence[int] = (3, 64, 200),
    recent: int = 16,
    candidates: int = 24,
    seed: int = 0,
    device: torch.device | str = "cpu",
    stored: torch.dtype | None = None,
) -> float:
    """The largest difference between full inference and ranking on a prefix that was run ahead, also in two steps.

    Args:
        ranker: to be checked.
        items: size of its catalogue.
        lengths: of the prefixes tried, each shortened to what the ranker reads.
        recent: newer events.
        candidates: items to score.
        seed: of the random histories.
        device: where the ranker computes.
        stored: precision that states are kept in; None for the ranker's own.
    """
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for length in lengths:
        total = min(length + recent, ranker.max_length)
        prefix = max(total - recent, 1)
        history = _random_history(total, items, generator).to(device)
        chosen = torch.randint(items, (1, candidates), generator=generator).to(device)
        expected = ranker.score(history, chosen)
        beginning, middle = _first(history, prefix // 2), _first(history, prefix)
        whole = _kept(ranker.prefill(middle), stored)
        states = [_kept(ranker.prefill(beginning), stored)] if prefix // 2 else []
        states.append(_kept(ranker.prefill(middle, states), stored))
        for pieces in ([whole], states):
            found = ranker.score_on(pieces, history, chosen)
            deviation = float((found - expected).abs().max())
            worst = max(worst, deviation if deviation == deviation else float("inf"))
    return worst


def check_prefix_safety(
    ranker: PrefixRanker,
    items: int,
    *,
    tolerance: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    stored: torch.dtype | None = None,
) -> float:
    """The error, where it is small enough.

    Args:
        ranker: to be checked.
        items: size of its catalogue.
        tolerance: the largest error; None for that of the precision that states are kept in, see ``TOLERANCES``.
        dtype: what the ranker computes with.
        device: where the ranker computes.
        stored: precision that states are kept in; None for ``dtype``.

    Raises:
        PrefixUnsafeError: naming the measured error.
    """
    allowed = TOLERANCES.get(stored or dtype, 1e-5) if tolerance is None else tolerance
    error = prefix_error(ranker, items, device=device, stored=stored)
    if not error <= allowed:
        raise PrefixUnsafeError(
            f"Scores on a prefix run ahead of time differ from full inference by up to {error:.2g}, and at most "
            f"{allowed:.2g} is allowed. Let no event see later ones, divide attention by a constant, and count "
            "positions and times from the oldest event, not back from the query."
        )
    return error


def _kept(states: torch.Tensor, stored: torch.dtype | None) -> torch.Tensor:
    return states if stored is None else states.to(stored).to(states.dtype)


def _random_history(length: int, items: int, generator: torch.Generator) -> Context:
    gaps = torch.randint(1, 3 * _DAY, (length,), generator=generator)
    times = gaps.cumsum(0)
    return Context(
        users=torch.zeros(1, dtype=torch.int64),
        items=torch.randint(items, (length,), generator=generator),
        timestamps=times,
        offsets=torch.tensor([0, length]),
        now=times[-1:] + _DAY,
    )


def _first(history: Context, events: int) -> Context:
    # A signal comes before its request, and a copy serves later ones: states must not know the time of the query.
    now = history.timestamps[events - 1 : events]
    offsets = torch.tensor([0, events], device=history.items.device)
    return Context(history.users, history.items[:events], history.timestamps[:events], offsets, now)
