"""The order of events, and what is done where the data give none: events of one user at the same time.

A *run* is a stretch of one user's events with one timestamp. The tie rule only ever permutes events inside a run.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.hashing import hash_strings, mix

_UNKNOWN_TIME = np.iinfo(np.int64).min


def order_events(events: pl.DataFrame, ties: str, seed: int) -> pl.DataFrame:
    """Sort events by user (byte order of the identifier) and time, ties by the rule.

    Args:
        events: user_id, item_id, and timestamp or position or both, whichever orders them without nulls; the order of
            rows is the order of the file. Where there are positions they are the order (they may know more than a
            timestamp that is only a day).
        ties: ``file`` keeps the order of positions, or else of rows; ``shuffle`` orders a run by a hash of (seed, user,
            item), so that an event's place never depends on the order of the file or on which other events are there;
            ``group`` does the same with a fixed seed and gives all events of a run one group number.
        seed: of ``shuffle``.

    Returns:
        The same columns with ``timestamp`` (null where unknown), ``position`` (int32, 0-based and without gaps within
        the user), ``run`` (int32) and ``group`` (int32): numbers within the user, ascending. Under ``shuffle`` and
        ``file`` the group of an event is its position, a group of its own.
    """
    if "timestamp" not in events.columns:
        events = events.with_columns(timestamp=pl.lit(None, dtype=pl.Int64))
    key = events["position" if "position" in events.columns else "timestamp"].to_numpy()
    users = _codes(events["user_id"])[0]
    order = np.lexsort((key, users))
    users, times = users[order], events["timestamp"].fill_null(_UNKNOWN_TIME).to_numpy()[order]

    new_user = np.ones(len(order), dtype=np.bool_)
    new_user[1:] = users[1:] != users[:-1]
    new_run = new_user | (times == _UNKNOWN_TIME)
    new_run[1:] |= times[1:] != times[:-1]
    runs = np.cumsum(new_run) - 1
    if ties != "file":
        tied = np.flatnonzero(np.bincount(runs)[runs] > 1)
        hashes = tie_hash(events[order[tied]], seed if ties == "shuffle" else 0)
        order[tied] = order[tied[np.lexsort((hashes, runs[tied]))]]
    first_of_user = np.maximum.accumulate(np.where(new_user, np.arange(len(order)), 0))
    position = np.arange(len(order)) - first_of_user
    run = runs - runs[first_of_user]
    return events[order].with_columns(
        pl.Series("position", position.astype(np.int32)),
        pl.Series("run", run.astype(np.int32)),
        pl.Series("group", (run if ties == "group" else position).astype(np.int32)),
    )


def tie_hash(events: pl.DataFrame, seed: int) -> NDArray[np.uint64]:
    """uint64 ``[N]``: a hash of (seed, user_id, item_id), by which events of one moment are put in a random order."""
    users, items = (_hash_column(events[name], seed + number) for number, name in enumerate(("user_id", "item_id")))
    return mix(users ^ mix(items))


def _hash_column(ids: pl.Series, seed: int) -> NDArray[np.uint64]:
    codes, unique = _codes(ids)
    hashes: NDArray[np.uint64] = hash_strings(unique, seed)[codes]
    return hashes


def _codes(ids: pl.Series) -> tuple[NDArray[np.uint32], pl.Series]:
    """Each identifier's number in the byte order of the distinct ones, and those."""
    unique = ids.unique().sort()
    return ids.cast(pl.Enum(unique)).to_physical().to_numpy().astype(np.uint32, copy=False), unique
