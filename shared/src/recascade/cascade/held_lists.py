"""The training events cut in two: what earlier stages learn while they make lists, and what users did with these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences, offsets_of, ranges
from recascade.errors import ConfigurationError, DataError


def without_latest(data: EncodedSplit, share: float) -> EncodedSplit:
    """The training events alone, the latest of them held out.

    Nothing that the whole split holds out is among its events: they end where training ends. Its ``validation`` targets
    are the held events, by which the earlier stages choose their weights; its ``test`` part is the validation part of
    the whole split, whose outcomes nothing is fitted to.

    Args:
        data: the encoded split.
        share: of the training events; under the temporal protocol the latest of the log, otherwise of each user (whole
            groups, at least one where a user has two).

    Raises:
        DataError: nobody has two events in training, or all are of one moment.
        ConfigurationError: the validation events are trained on too (``trainer.refit``).
    """
    if np.any(data.train_ends[data.validation.users] > data.validation.history_ends):
        raise ConfigurationError(
            "A cascade's lists are checked on the validation events, which trainer.refit would train on; leave it out."
        )
    lengths = data.train_lengths
    events = _trained_events(data, lengths)
    held = _latest_of_all(events, share) if data.manifest.config.protocol == "temporal" else _latest(events, share)
    counts = np.bincount(_owners(events)[held], minlength=events.users).astype(np.int64)
    if np.any(counts == lengths):
        # Who came after the moment has no history to be asked for with, and is not to be learned from either.
        lengths = np.where(counts == lengths, 0, lengths)
        counts = np.minimum(counts, lengths)
        events = _trained_events(data, lengths)
    if not counts.any():
        raise DataError(
            "Nobody has training events both before and after the moment that lists would be made from; a re-ranker "
            "has nothing to learn here. Change model.held_share, or leave model.reranker out."
        )
    ends = events.offsets[1:] - counts
    return replace(
        data,
        events=events,
        train_ends=ends,
        validation=_held_out(events, ends, counts),
        test=replace(data.validation, history_ends=events.offsets[1:][data.validation.users]),
    )


def _trained_events(data: EncodedSplit, lengths: NDArray[np.int64]) -> EventSequences:
    """The first events of each user."""
    kept = ranges(data.events.offsets[:-1], lengths)
    return EventSequences(
        offsets_of(lengths),
        np.asarray(data.events.items)[kept],
        np.asarray(data.events.timestamps)[kept],
        np.asarray(data.events.groups)[kept],
    )


def _owners(events: EventSequences) -> NDArray[np.int64]:
    return np.repeat(np.arange(events.users), events.lengths)


def _latest_of_all(events: EventSequences, share: float) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = events.timestamps > np.quantile(events.timestamps, 1 - share, method="lower")
    return held


def _latest(events: EventSequences, share: float) -> NDArray[np.bool_]:
    """bool ``[N]``: the last groups of each user, never all of them."""
    owners, filled = _owners(events), events.lengths > 0
    first, last = np.zeros(events.users, dtype=np.int64), np.zeros(events.users, dtype=np.int64)
    first[filled] = events.groups[events.offsets[:-1][filled]]
    last[filled] = events.groups[events.offsets[1:][filled] - 1]
    groups = last - first + 1
    count = np.minimum(groups - 1, np.maximum(1, np.round(share * groups))).astype(np.int64)
    held: NDArray[np.bool_] = events.groups > (last - count)[owners]
    return held


def _held_out(events: EventSequences, ends: NDArray[np.int64], counts: NDArray[np.int64]) -> HeldOut:
    users = np.flatnonzero(counts)
    targets = ranges(ends[users], counts[users])
    return HeldOut(
        users=users,
        history_ends=ends[users],
        target_offsets=offsets_of(counts[users]),
        target_items=events.items[targets],
        target_timestamps=events.timestamps[targets],
    )
