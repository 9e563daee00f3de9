"""Next-item prediction for models that read a history as a whole: one training sequence per target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from recascade.data.batching import BatchSettings
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.data.next_item import NextItemBatch, NextItemData, TrainingWindows


class PrefixData(NextItemData):
    """Batches in which each target (under ``ties=group`` each next group) has a sequence of its own: the at most
    ``max_length`` events before it. This is the sliding window that TIGER's re-implementations train with.

    Args:
        data: the encoded split; its test part is not touched.
        settings: batch sizes, buckets, workers (a ``TrainerConfig`` will do).
        max_length: most events per training sequence.
        seed: of the run; orders the batches and samples the validation users.
    """

    def __init__(self, data: EncodedSplit, settings: BatchSettings, *, max_length: int, seed: int = 0) -> None:
        super().__init__(data, settings, max_length=max(1, int(data.train_lengths.max(initial=0))), seed=seed)
        self.windows = prefixes(self.windows, max_length)

    def training_batch(self, indices: NDArray[np.int64]) -> NextItemBatch:
        """The batch of the given prefixes (int64 ``[B]``, rows of ``self.windows``)."""
        windows = self.windows
        starts, lengths = windows.starts[indices], windows.lengths[indices]
        context = self._context(windows.users[indices], ranges(starts, lengths), lengths)
        ends = starts + lengths
        counts = windows.followers[ends - 1].astype(np.int64)
        owners = None if self._single_targets else torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        targets = self._index(self._items[ranges(ends, counts)])
        return NextItemBatch(context, context.offsets[1:] - 1, targets, owners)


def generator_data(
    data: EncodedSplit, settings: BatchSettings, *, max_length: int, one_pass: bool, seed: int = 0
) -> NextItemData:
    """A sequence per target, or, for a model that learns them in one pass, all of a user's events in windows.

    Args:
        data: as of ``PrefixData``.
        settings: likewise.
        max_length: likewise.
        one_pass: whether an event's state depends on nothing later.
        seed: of the run.
    """
    if one_pass:
        return NextItemData(data, settings, max_length=max_length, windows="chunks", seed=seed)
    return PrefixData(data, settings, max_length=max_length, seed=seed)


def prefixes(windows: TrainingWindows, max_length: int) -> TrainingWindows:
    """The at most ``max_length`` events up to each event of the windows from which something is predicted.

    Args:
        windows: of whole histories, see ``recascade.data.next_item.training_windows``.
        max_length: most events of a prefix.
    """
    events = ranges(windows.starts, windows.lengths)
    owners = np.repeat(np.arange(len(windows.starts)), windows.lengths)
    chosen = windows.followers[events] > 0
    ends, owners = events[chosen], owners[chosen]
    lengths = np.minimum(ends - windows.starts[owners] + 1, max_length)
    return replace(windows, users=windows.users[owners], starts=ends - lengths + 1, lengths=lengths)
