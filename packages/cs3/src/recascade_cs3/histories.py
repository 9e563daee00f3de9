"""The latest positives of every user, for models that read histories: what is known now, nothing later."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.events import offsets_of, ranges
from recascade_cs3.running_mean import Occurrences


class RecentPositives:
    """A ring of the last ``length`` positives per user; row 0 stands for unknown users and stays empty.

    Args:
        length: L, events kept per user; 0 keeps none.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.items = torch.zeros(1, length, dtype=torch.int64)
        self.timestamps = torch.zeros(1, length, dtype=torch.int64)
        self.counts = torch.zeros(1, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.counts) - 1

    def grow(self, count: int) -> None:
        """Make room for ``count`` users. Never shrinks."""
        more = count - len(self)
        if more > 0:
            self.items = torch.cat([self.items, torch.zeros(more, self.length, dtype=torch.int64)])
            self.timestamps = torch.cat([self.timestamps, torch.zeros(more, self.length, dtype=torch.int64)])
            self.counts = torch.cat([self.counts, torch.zeros(more, dtype=torch.int64)])

    def context(self, users: Tensor, now: Tensor | None = None) -> Context:
        """Requests of these users (int64 ``[B]``) at these times (int64 ``[B]``), with their latest positives."""
        # NumPy's operators cost a third of PyTorch's at the size of a micro-batch.
        rows = users.numpy()
        places = np.where(rows < len(self), rows + 1, 0)
        counts = self.counts.numpy()[places]
        lengths = np.minimum(counts, self.length)
        offsets = offsets_of(lengths)
        # Event j of a request is the (count - length + j)-th positive of its user, which lies at that number modulo L.
        numbers = ranges(counts - lengths, lengths)
        slots = torch.from_numpy(np.repeat(places, lengths) * self.length + numbers % max(self.length, 1))
        return Context(
            users=users,
            items=self.items.flatten().index_select(0, slots),
            timestamps=self.timestamps.flatten().index_select(0, slots),
            offsets=torch.from_numpy(offsets),
            now=now,
        )

    def append(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        timestamps: NDArray[np.int64],
        labels: NDArray[np.float32],
    ) -> None:
        """Let the positives of n events in, oldest first; each user must be in the table already (``grow``)."""
        positives = np.flatnonzero(labels > 0)
        if not self.length or not len(positives):
            return
        occurrences = Occurrences.of(users[positives])
        places = occurrences.rows + 1
        # A user's older positives of this batch, beyond L, would be overwritten at once.
        kept = occurrences.later < self.length
        totals = self.counts.index_select(0, places) + occurrences.counts
        slots = (totals[occurrences.groups] - 1 - occurrences.later) % self.length
        places_of_events = places[occurrences.groups]
        self.items[places_of_events[kept], slots[kept]] = torch.from_numpy(items[positives])[kept]
        self.timestamps[places_of_events[kept], slots[kept]] = torch.from_numpy(timestamps[positives])[kept]
        self.counts.index_copy_(0, places, totals)

    def reset(self) -> None:
        """Forget everything."""
        self.counts.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, the very tensors."""
        return {"items": self.items, "timestamps": self.timestamps, "counts": self.counts}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self.items, self.timestamps, self.counts = tensors["items"], tensors["timestamps"], tensors["counts"]
