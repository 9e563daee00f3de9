"""The protocols: which events are training, validation and test, and which of them are targets. Pure functions.

Events come sorted by user, then time. A *unit* is what is never cut: a single event, or a group of simultaneous ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = 0, 1, 2


class Assignment(NamedTuple):
    """``part`` int8 ``[N]`` (``TRAIN``, ``VALIDATION``, ``TEST``) and ``target`` bool ``[N]`` of N events."""

    part: NDArray[np.int8]
    target: NDArray[np.bool_]


def units_of(users: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the units over all users, ascending from 0: int64 ``[N]``.

    Args:
        users: ``[N]``, user code, sorted.
        labels: ``[N]``, number of the unit within its user, ascending.
    """
    if len(users) == 0:
        return np.zeros(0, dtype=np.int64)
    new = (users[1:] != users[:-1]) | (labels[1:] != labels[:-1])
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(new)])


def hold_out_ends(
    users: NDArray[np.int64],
    units: NDArray[np.int64],
    *,
    validation_fraction: float | None,
    test_fraction: float | None,
    minimum_history: int,
    first_only: bool,
) -> Assignment:
    """Hold out the end of each user's history: the last two units, or the last fractions of the units.

    Users who would keep fewer than ``minimum_history`` training events (at least one) keep all their events in
    training.

    Args:
        users: int64 ``[N]``, user code 0…U-1, sorted, every code present.
        units: int64 ``[N]``, from ``units_of``.
        validation_fraction: share of a user's units (rounded, at least one), or None for exactly one unit.
        test_fraction: likewise, for test.
        minimum_history: training events needed.
        first_only: only the first unit of each part is a target.
    """
    user_count = int(users[-1]) + 1 if len(users) else 0
    first_event = np.searchsorted(users, np.arange(user_count))
    first_unit = units[first_event]
    unit_counts = np.diff(np.append(first_unit, units[-1] + 1 if len(units) else 0))
    held_test = _share(unit_counts, test_fraction)
    held_validation = _share(unit_counts, validation_fraction)
    test_unit = (first_unit + unit_counts - held_test)[users]
    validation_unit = (first_unit + unit_counts - held_test - held_validation)[users]
    part = np.where(units >= test_unit, TEST, np.where(units >= validation_unit, VALIDATION, TRAIN)).astype(np.int8)
    training_events = np.bincount(users[part == TRAIN], minlength=user_count)
    too_short = training_events < max(1, minimum_history)
    part[too_short[users]] = TRAIN
    target = part != TRAIN
    if first_only:
        target &= (units == test_unit) | (units == validation_unit)
    return Assignment(part, target)


def hold_out_time(
    users: NDArray[np.int64],
    units: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    *,
    validation_time: int,
    test_time: int,
    minimum_history: int,
    first_only: bool,
) -> Assignment:
    """Hold out everything from a moment on, the same moment for all users.

    Events of users with fewer than ``minimum_history`` training events stay where their time puts them, but are no
    targets.

    Args:
        users: int64 ``[N]``, user code 0…U-1, sorted.
        units: int64 ``[N]``, from ``units_of``; a unit has one timestamp or is one event.
        timestamps: int64 ``[N]``, seconds, ascending within a user.
        validation_time: events from here on are validation.
        test_time: events from here on are test.
        minimum_history: training events needed to be evaluated.
        first_only: only the first unit of a user in each part is a target.
    """
    part = (np.where(timestamps >= test_time, TEST, np.where(timestamps >= validation_time, VALIDATION, TRAIN))).astype(
        np.int8
    )
    user_count = int(users[-1]) + 1 if len(users) else 0
    training_events = np.bincount(users[part == TRAIN], minlength=user_count)
    target = (part != TRAIN) & (training_events >= minimum_history)[users]
    if first_only and len(users):
        starts = np.ones(len(users), dtype=np.bool_)
        starts[1:] = (users[1:] != users[:-1]) | (part[1:] != part[:-1])
        first_unit = units[np.maximum.accumulate(np.where(starts, np.arange(len(users)), 0))]
        target &= units == first_unit
    return Assignment(part, target)


def _share(unit_counts: NDArray[np.int64], fraction: float | None) -> NDArray[np.int64]:
    if fraction is None:
        return np.ones_like(unit_counts)
    shares: NDArray[np.int64] = np.maximum(1, np.floor(unit_counts * fraction + 0.5).astype(np.int64))
    return shares
