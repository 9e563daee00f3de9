"""Events that were scored, and those of them that wait for their labels to be known."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from recascade.data.event_batch import EventBatch


@dataclass(frozen=True)
class Events:
    """n events, as the learner keeps them between scoring and training.

    Attributes:
        offsets: int64 ``[n]``, ascending with their arrival.
        users: int64 ``[n]``, rows.
        items: int64 ``[n]``, rows.
        timestamps: int64 ``[n]``, seconds.
        label_times: int64 ``[n]``, when each label is known, seconds.
        labels: float32 ``[n]``, 1 or 0.
        ticks: int64 ``[n]``, the micro-batch in which each was scored.
        served: float32 ``[n, w]``, what both towers read beside their own inputs when the events were scored; w is 0
            where training reads what is stored by then.
    """

    offsets: NDArray[np.int64]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    label_times: NDArray[np.int64]
    labels: NDArray[np.float32]
    ticks: NDArray[np.int64]
    served: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def none(cls) -> Events:
        """No events."""
        whole = np.zeros(0, dtype=np.int64)
        return cls(whole, whole, whole, whole, whole, np.zeros(0, np.float32), whole, np.zeros((0, 0), np.float32))

    @classmethod
    def arrived(cls, batch: EventBatch, tick: int) -> Events:
        """The events of a micro-batch."""
        count = len(batch.users)
        return cls(
            batch.offset + np.arange(count, dtype=np.int64),
            batch.users,
            batch.items,
            batch.timestamps,
            batch.label_times,
            batch.labels,
            np.full(count, tick, dtype=np.int64),
            np.zeros((count, 0), dtype=np.float32),
        )

    def known_in_order(self, watermark: int) -> bool:
        """Whether all labels are known at this time, in the order of the events."""
        return bool((self.label_times <= watermark).all() and (np.diff(self.label_times) >= 0).all())

    def chosen(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Events:
        """The events at these places."""
        return Events(*(getattr(self, field.name)[index] for field in fields(self)))

    def followed_by(self, others: Events) -> Events:
        """These events, then the others."""
        if not len(self):
            return others
        return Events(
            *(np.concatenate([getattr(self, field.name), getattr(others, field.name)]) for field in fields(self))
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name."""
        return {field.name: torch.from_numpy(np.ascontiguousarray(getattr(self, field.name))) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Events:
        """What ``tensors`` gave."""
        return cls(**{field.name: tensors[field.name].numpy() for field in fields(cls)})


def take_known(waiting: Events, watermark: int, tick: int) -> tuple[Events, Events]:
    """Split waiting events into those whose labels are known and those that go on waiting.

    Args:
        waiting: the events.
        watermark: the time that the stream has reached, seconds; labels known later stay unknown.
        tick: only events that were scored in this micro-batch or before it are taken.

    Returns:
        The known ones, ordered by the time of their labels and then by their arrival; and the rest.
    """
    known = (waiting.label_times <= watermark) & (waiting.ticks <= tick)
    ready = waiting.chosen(known)
    ready = ready.chosen(np.lexsort((ready.offsets, ready.label_times)))
    return ready, waiting.chosen(~known)
