"""A micro-batch of labelled events."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EventBatch:
    """n events of a stream, in its order.

    n is the number of source rows from ``offset`` to ``next_offset`` less the rows that were left out (repeated or late
    events); it may be 0.

    Attributes:
        offset: rows of the source before this batch.
        next_offset: rows of the source up to its end: where reading goes on once the batch is done with.
        event_ids: int64 ``[n]``.
        users: int64 ``[n]``, rows of the user vocabulary.
        items: int64 ``[n]``, rows of the item vocabulary.
        timestamps: int64 ``[n]``, seconds since 1970.
        labels: float32 ``[n]``, in [0, 1].
        label_times: int64 ``[n]``, the second at which the label is known; never before the timestamp.
    """

    offset: int
    next_offset: int
    event_ids: NDArray[np.int64]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    labels: NDArray[np.float32]
    label_times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, end: int) -> EventBatch:
        """The events of source rows ``start`` to ``end``, for a batch from which no row was left out."""
        first, last = start - self.offset, end - self.offset
        return EventBatch(
            start,
            end,
            self.event_ids[first:last],
            self.users[first:last],
            self.items[first:last],
            self.timestamps[first:last],
            self.labels[first:last],
            self.label_times[first:last],
        )

    def select(self, kept: NDArray[np.bool_]) -> EventBatch:
        """The same stretch of the source with fewer events (``kept``: bool ``[n]``)."""
        return replace(
            self,
            event_ids=self.event_ids[kept],
            users=self.users[kept],
            items=self.items[kept],
            timestamps=self.timestamps[kept],
            labels=self.labels[kept],
            label_times=self.label_times[kept],
        )

    def followed_by(self, later: EventBatch) -> EventBatch:
        """This batch and the next one as one."""
        return EventBatch(
            self.offset,
            later.next_offset,
            np.concatenate([self.event_ids, later.event_ids]),
            np.concatenate([self.users, later.users]),
            np.concatenate([self.items, later.items]),
            np.concatenate([self.timestamps, later.timestamps]),
            np.concatenate([self.labels, later.labels]),
            np.concatenate([self.label_times, later.label_times]),
        )
