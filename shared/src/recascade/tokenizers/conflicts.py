"""What to do when several items get one code: count them up in one more level, or move them to free codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recascade.errors import DataError
from recascade.tokenizers.code_groups import code_groups, place_in_group

# Largest table of items × codes that is worked on at once, in numbers.
_NUMBERS_AT_ONCE = 1 << 22

LastLevelDistances = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows int64 ``[M]`` → squared distances to every code of the last level, float32 ``[M, K]``."""


def roomy_digit(codes: NDArray[np.int64]) -> int:
    """A size for the added level: TIGER's 256, or twice the items of the fullest code where that is more (our choice).

    Twice leaves room for new items.
    """
    return max(256, 2 * int(np.bincount(code_groups(codes)).max(initial=0)))


def append_digit(codes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Add a level that counts the items of one code: 0 for the first, 1 for the second, and so on (TIGER).

    Args:
        codes: int64 ``[N, L]``.
        size: codes of the added level.

    Returns:
        int64 ``[N, L + 1]``, all rows different.

    Raises:
        DataError: more than ``size`` items share a code.
    """
    groups = code_groups(codes)
    digits = place_in_group(groups)
    if len(digits) and digits.max() >= size:
        raise DataError(outgrown(int(np.bincount(groups).max()), size))
    return np.column_stack([codes, digits])


def outgrown(items: int, size: int) -> str:
    """The sentence about a digit level that is too small."""
    return (
        f"{items:,} items share one code, but the level that tells them apart has only {size:,}: the items have "
        "outgrown the codebooks. Set tokenizer.conflicts.digit_size or tokenizer.sizes higher, or "
        "tokenizer.conflicts.policy=allow."
    )


def reassign(
    codes: NDArray[np.int64], size: int, distances: LastLevelDistances, *, temperature: float, iterations: int
) -> NDArray[np.int64]:
    """Spread the items of one code over the free codes of the last level, by Sinkhorn's balancing (LC-Rec, MiniOneRec).

    The plan exp(−distance / (temperature · mean distance)) is scaled until each colliding item has the mass 1 and no
    free code of its prefix holds more than 1. Those works ask for equal mass on all codes, which makes the few items of
    one prefix forget what is near. Then, in rounds, each item takes the code with most of its mass that is still free
    (our rounding: items with equal vectors have equal plans). The first item of a code and all that do not collide keep
    theirs; so do items of a prefix without a free code, shared.

    Args:
        codes: int64 ``[N, L]``.
        size: codes of the last level.
        distances: of items to the codes of the last level.
        temperature: the smaller, the nearer a lone item stays to its nearest code.
        iterations: of the scaling.

    Returns:
        int64 ``[N, L]``, changed in the last column only.
    """
    codes = codes.copy()
    groups = code_groups(codes)
    colliding = place_in_group(groups) > 0
    # The first item of a code keeps it: it is the others that need a place.
    rows = np.flatnonzero(colliding)
    if not len(rows):
        return codes
    prefixes = code_groups(codes[:, :-1])
    rows = rows[np.argsort(prefixes[rows], kind="stable")]
    moving = np.unique(prefixes[rows])
    firsts = np.searchsorted(prefixes[rows], moving)
    for piece in np.split(np.arange(len(moving)), _cuts(firsts, len(rows), size)):
        chosen = rows[firsts[piece[0]] : firsts[piece[-1] + 1] if piece[-1] + 1 < len(moving) else len(rows)]
        owners = np.searchsorted(moving[piece], prefixes[chosen])
        taken = np.zeros((len(piece), size), dtype=np.bool_)
        members = np.flatnonzero(np.isin(prefixes, moving[piece]) & ~colliding)
        taken[np.searchsorted(moving[piece], prefixes[members]), codes[members, -1]] = True
        plan = _sinkhorn(distances(chosen), owners, ~taken, temperature, iterations)
        settled = _round(plan, owners, taken)
        codes[chosen[settled >= 0], -1] = settled[settled >= 0]
    return codes


def _cuts(firsts: NDArray[np.int64], rows: int, size: int) -> NDArray[np.int64]:
    """Where to cut the prefixes so that the items of a piece times the codes fit the memory."""
    budget = max(1, _NUMBERS_AT_ONCE // size)
    return np.flatnonzero(np.diff(firsts // budget)) + 1


def _sinkhorn(
    distances: NDArray[np.float32],
    owners: NDArray[np.int64],
    free: NDArray[np.bool_],
    temperature: float,
    iterations: int,
) -> NDArray[np.float64]:
    """Plans of all prefixes at once: rows sum to 1, columns of a prefix to at most 1."""
    scale = temperature * max(float(distances.mean()), float(np.finfo(np.float32).tiny))
    logits = -(distances - distances.min(axis=1, keepdims=True)).astype(np.float64) / scale
    plan: NDArray[np.float64] = np.exp(np.maximum(logits, -500)) * free[owners]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    for _ in range(iterations):
        columns = np.add.reduceat(plan, starts, axis=0)
        plan /= np.maximum(1, columns)[owners]
        total = plan.sum(axis=1, keepdims=True)
        plan /= np.where(total > 0, total, 1)
    return plan


def _round(plan: NDArray[np.float64], owners: NDArray[np.int64], taken: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The code of each row, int64 ``[M]``, distinct within an owner and not ``taken``; -1 where none is left."""
    settled = np.full(len(plan), -1, dtype=np.int64)
    waiting = np.arange(len(plan))
    size = plan.shape[1]
    while len(waiting):
        wishes = np.where(taken[owners[waiting]], -1.0, plan[waiting])
        wanted = wishes.argmax(axis=1)
        mass = wishes[np.arange(len(waiting)), wanted]
        hopeless = mass < 0
        # One winner per code: the row with most mass, of equal ones the first.
        order = np.lexsort((-mass, owners[waiting] * size + wanted))
        places = owners[waiting][order] * size + wanted[order]
        wins = np.zeros(len(waiting), dtype=np.bool_)
        wins[order[np.diff(places, prepend=-1) > 0]] = True
        wins &= ~hopeless
        settled[waiting[wins]] = wanted[wins]
        taken[owners[waiting[wins]], wanted[wins]] = True
        waiting = waiting[~wins & ~hopeless]
    return settled
