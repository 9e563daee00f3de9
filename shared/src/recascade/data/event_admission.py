"""Which events of a stream are taken: each once, and none that comes too late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recascade.data.event_batch import EventBatch
from recascade.data.stream_config import StreamConfig
from recascade.errors import DataError

_SMALLEST_MEMORY = 1 << 16


class EventAdmission:
    """Leaves out repeated and late events, micro-batch by micro-batch.

    The watermark is the latest timestamp read. An event is late if its timestamp lies more than ``allowed_lateness``
    seconds behind the watermark of the rows before it. Otherwise it is repeated if its id is that of an event taken
    before. Ids are remembered until an event of their second would be late, which bounds the memory: a source that
    delivers a stretch again after a break needs an ``allowed_lateness`` as long as that stretch.

    Attributes:
        watermark: seconds since 1970; 0 before the first event.
        repeated: events left out because they had been taken before.
        late: events left out because they came too late.
    """

    def __init__(self, config: StreamConfig) -> None:
        self._lateness = config.allowed_lateness
        self._drop_late = config.late == "drop"
        self.watermark = 0
        self.repeated = 0
        self.late = 0
        self._times_by_id: dict[int, int] = {}
        self._memory_limit = _SMALLEST_MEMORY

    def admit(self, batch: EventBatch) -> EventBatch:
        """The events to be taken.

        Raises:
            DataError: an event is late and late events are errors; nothing has changed then, so reading can go on from
                ``batch.offset``.
        """
        before = np.maximum.accumulate(np.concatenate([[self.watermark], batch.timestamps]))
        punctual = batch.timestamps >= before[:-1] - self._lateness
        if not punctual.all():
            if not self._drop_late:
                raise _too_late(batch, before, int(punctual.argmin()), self._lateness)
            self.late += len(batch) - int(punctual.sum())
            batch = batch.select(punctual)
        new = self._first_appearances(batch.event_ids)
        if not new.all():
            self.repeated += len(batch) - int(new.sum())
            batch = batch.select(new)
        self.watermark = int(before[-1])
        self._remember(batch)
        return batch

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on later as if never stopped: whole numbers, and int64 arrays ``[M]`` of the M
        remembered ids and their timestamps."""
        remembered = {i: time for i, time in self._times_by_id.items() if time >= self.watermark - self._lateness}
        return {
            "watermark": self.watermark,
            "repeated": self.repeated,
            "late": self.late,
            "remembered_ids": np.fromiter(remembered.keys(), np.int64, len(remembered)),
            "remembered_times": np.fromiter(remembered.values(), np.int64, len(remembered)),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self.watermark = int(state["watermark"])
        self.repeated = int(state["repeated"])
        self.late = int(state["late"])
        ids, times = np.asarray(state["remembered_ids"]), np.asarray(state["remembered_times"])
        self._times_by_id = dict(zip(ids.tolist(), times.tolist(), strict=True))

    def _first_appearances(self, event_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool ``[n]``: the id is neither remembered nor that of an earlier row."""
        ids = event_ids.tolist()
        new = np.ones(len(ids), dtype=np.bool_)
        if not self._times_by_id.keys().isdisjoint(ids):
            # Forgetting is lazy, so what should be forgotten already must not count: a restored run would not have it.
            horizon = self.watermark - self._lateness
            new = np.array([self._times_by_id.get(i, horizon - 1) < horizon for i in ids], dtype=np.bool_)
        if len(set(ids)) < len(ids):
            first = np.zeros(len(ids), dtype=np.bool_)
            first[np.unique(event_ids, return_index=True)[1]] = True
            new &= first
        return new

    def _remember(self, batch: EventBatch) -> None:
        self._times_by_id.update(zip(batch.event_ids.tolist(), batch.timestamps.tolist(), strict=True))
        if len(self._times_by_id) > self._memory_limit:
            horizon = self.watermark - self._lateness
            self._times_by_id = {i: time for i, time in self._times_by_id.items() if time >= horizon}
            self._memory_limit = max(_SMALLEST_MEMORY, 2 * len(self._times_by_id))


def _too_late(batch: EventBatch, before: NDArray[np.int64], row: int, lateness: int) -> DataError:
    return DataError(
        f"The event in source row {batch.offset + row} (counted from 0) has timestamp {batch.timestamps[row]}, "
        f"{before[row] - batch.timestamps[row]} seconds behind the latest one before it ({before[row]}), and "
        f"stream.allowed_lateness is {lateness}; raise it, or leave such events out with stream.late=drop. "
        f"The position kept is row {batch.offset}."
    )
