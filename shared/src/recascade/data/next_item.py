"""Next-item prediction: from a user's events to batches of packed sequences with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from recascade.contracts.context import Context
from recascade.data.batching import BatchSettings
from recascade.data.encoded import EncodedSplit
from recascade.data.events import offsets_of, ranges, stretches
from recascade.data.loader import ResumableLoader, evaluation_loader, training_loader
from recascade.errors import ConfigurationError, DataError

Windows = Literal["last", "chunks"]
VALIDATION_REQUESTS = 256


@dataclass(frozen=True)
class NextItemBatch:
    """B training sequences with N targets, predicted from the model's states at P of the T events.

    Attributes:
        context: the sequences, packed; T events.
        positions: int64 ``[P]``, ascending, each once: the events from whose states something is predicted. Under
            ``ties=group`` only the last event of a group is one, so that nothing is predicted from inside its own
            basket.
        targets: int64 ``[N]``, item indices.
        owners: int64 ``[N]``, ascending: target n is predicted at ``positions[owners[n]]``. None where every position
            has exactly one target (N = P).
    """

    context: Context
    positions: Tensor
    targets: Tensor
    owners: Tensor | None = None

    @property
    def event_count(self) -> int:
        """T."""
        return self.context.items.numel()

    @property
    def target_count(self) -> int:
        """N."""
        return self.targets.numel()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> NextItemBatch:
        """The same batch on another device."""
        return NextItemBatch(
            self.context.to(device, non_blocking=non_blocking),
            self.positions.to(device, non_blocking=non_blocking),
            self.targets.to(device, non_blocking=non_blocking),
            None if self.owners is None else self.owners.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True)
class TrainingWindows:
    """W windows of consecutive input events, each with at least one target.

    Attributes:
        users: int64 ``[W]``.
        starts: int64 ``[W]``, first input event, an index into the flat events.
        lengths: int64 ``[W]``, input events.
        followers: int32 ``[N]`` over all events, to be read at input events: how many targets are predicted from the
            state at this event. They are the events right behind it: the whole next group if the event is the last of
            its own group, else none. Where every training event is a group of its own, one number seen N times.
    """

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    followers: NDArray[np.int32]


def training_windows(data: EncodedSplit, max_length: int, windows: Windows = "last") -> TrainingWindows:
    """Cut the training histories into windows of at most ``max_length`` input events.

    The inputs of a user are all training events but the last group (nothing is predicted from it): under ``ties=group``
    a group is a basket or a day, otherwise a single event.

    Args:
        data: the split.
        max_length: most input events of a window.
        windows: ``last`` keeps each user's most recent window; ``chunks`` keeps all, cut back from the end, so that
            every target is trained on once per epoch and the first window is the short one.

    Raises:
        ConfigurationError: an unknown kind of windows, or ``max_length`` below 1.
        DataError: no user has two groups of training events.
    """
    if max_length < 1:
        raise ConfigurationError(f"max_length is {max_length}; a window needs at least 1 event.")
    first = np.asarray(data.events.offsets)[:-1]
    last_groups, followers = _followers(data)
    inputs = np.maximum(last_groups - first, 0)
    users = np.flatnonzero(inputs)
    if windows == "last":
        lengths = np.minimum(inputs[users], max_length)
        starts = last_groups[users] - lengths
    elif windows == "chunks":
        chunks = -(-inputs[users] // max_length)
        ends = np.repeat(last_groups[users], chunks) - ranges(np.zeros_like(chunks), chunks) * max_length
        users = np.repeat(users, chunks)
        starts = np.maximum(ends - max_length, first[users])
        lengths = ends - starts
    else:
        raise ConfigurationError(f"windows is {windows!r}; it must be 'last' or 'chunks'.")
    # A window inside one large basket predicts nothing.
    groups = np.asarray(data.events.groups)
    useful = groups[starts] != groups[starts + lengths]
    if not useful.any():
        raise DataError(
            "No user has two training events one after the other, so there is no next item to learn from. "
            "Loosen the split's filters or choose another split protocol."
        )
    return TrainingWindows(users[useful], starts[useful], lengths[useful], followers)


def _followers(data: EncodedSplit) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where each user's last training group begins, int64 ``[U]``; how many targets each event has, int32 ``[N]``."""
    offsets, ends = np.asarray(data.events.offsets), np.asarray(data.train_ends)
    groups = np.asarray(data.events.groups)
    if _single_events(offsets, ends, groups):
        return np.maximum(ends - 1, offsets[:-1]), np.broadcast_to(np.int32(1), len(groups))
    last_groups = np.empty(len(ends), dtype=np.int64)
    followers = np.empty(len(groups), dtype=np.int32)
    for start, stop in stretches(offsets):
        first, last = offsets[start], offsets[stop]
        last_groups[start:stop], followers[first:last] = _followers_of_groups(
            offsets[start : stop + 1] - first, ends[start:stop] - first, groups[first:last]
        )
        last_groups[start:stop] += first
    return last_groups, followers


def _single_events(offsets: NDArray[np.int64], ends: NDArray[np.int64], groups: NDArray[np.int32]) -> bool:
    """Whether every training event is a group of its own."""
    for start, stop in stretches(offsets):
        first, last = offsets[start], offsets[stop]
        own = groups[first:last]
        joined = first + 1 + np.flatnonzero(own[1:] == own[:-1])
        users = np.searchsorted(offsets, joined, side="right") - 1
        if ((joined > offsets[users]) & (joined < ends[users])).any():
            return False
    return True


def _followers_of_groups(
    offsets: NDArray[np.int64], ends: NDArray[np.int64], groups: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    begins = np.zeros(len(groups) + 1, dtype=bool)
    begins[1:-1] = groups[1:] != groups[:-1]
    begins[offsets] = True
    begins[ends] = True
    group_starts = np.flatnonzero(begins)
    followers = np.zeros(len(groups), dtype=np.int32)
    followers[group_starts[1:-1] - 1] = np.diff(group_starts[1:])
    # What follows the last training event is held out, or another user's.
    trained = ends > offsets[:-1]
    followers[ends[trained] - 1] = 0
    last_groups = offsets[:-1].copy()
    last_groups[trained] = group_starts[np.searchsorted(group_starts, ends[trained]) - 1]
    return last_groups, followers


def _one_target_each(windows: TrainingWindows) -> bool:
    """Whether every input event of the windows has exactly one target."""
    return all(
        bool((windows.followers[ranges(windows.starts[start:stop], windows.lengths[start:stop])] == 1).all())
        for start, stop in stretches(offsets_of(windows.lengths))
    )


class NextItemData(L.LightningDataModule):
    """Training and validation batches for next-item models.

    Args:
        data: the encoded split; its test part is not touched.
        settings: batch sizes, buckets, workers (a ``TrainerConfig`` will do).
        max_length: most input events per training sequence.
        windows: ``last`` or ``chunks``, see ``training_windows``.
        seed: of the run; orders the batches and samples the validation users.
    """

    def __init__(
        self,
        data: EncodedSplit,
        settings: BatchSettings,
        *,
        max_length: int,
        windows: Windows = "last",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.data = data
        self.settings = settings
        self.seed = seed
        self.windows = training_windows(data, max_length, windows)
        self._single_targets = _one_target_each(self.windows)
        # Plain arrays over the same memory: indexing a memory map itself is several times slower.
        self._items = np.asarray(data.events.items)
        self._timestamps = np.asarray(data.events.timestamps)

    def train_dataloader(self) -> ResumableLoader[NextItemBatch]:
        """Every training window once per epoch, over all ranks."""
        return training_loader(self.training_batch, self.windows.lengths, self.settings, self, seed=self.seed)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Rows of the validation part (int64 tensors), which the evaluator turns into requests; ranks take turns."""
        rows = validation_rows(self.data, self.settings.validation_users, self.seed)
        return evaluation_loader(torch.from_numpy, rows, VALIDATION_REQUESTS, self, workers=0)

    def training_batch(self, indices: NDArray[np.int64]) -> NextItemBatch:
        """The batch of the given windows (int64 ``[B]``, rows of ``self.windows``)."""
        windows = self.windows
        lengths = windows.lengths[indices]
        events = ranges(windows.starts[indices], lengths)
        context = self._context(windows.users[indices], events, lengths)
        if self._single_targets:
            return NextItemBatch(context, torch.arange(len(events)), self._index(self._items[events + 1]))
        followers = windows.followers[events]
        positions = np.flatnonzero(followers)
        counts = followers[positions].astype(np.int64)
        return NextItemBatch(
            context,
            torch.from_numpy(positions),
            self._index(self._items[ranges(events[positions] + 1, counts)]),
            torch.from_numpy(np.repeat(np.arange(len(positions)), counts)),
        )

    def _context(self, users: NDArray[np.int64], events: NDArray[np.int64], lengths: NDArray[np.int64]) -> Context:
        return Context(
            users=torch.from_numpy(users),
            items=self._index(self._items[events]),
            timestamps=torch.from_numpy(self._timestamps[events]),
            offsets=torch.from_numpy(offsets_of(lengths)),
        )

    @staticmethod
    def _index(items: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(items.astype(np.int64))


def validation_rows(data: EncodedSplit, most: int, seed: int) -> NDArray[np.int64]:
    """int64, rows of the validation part: all, or ``most`` of them drawn; 0 for no limit.

    Histories of about equal length stand together, which spares a model padding.
    """
    held_out = data.validation
    rows = np.arange(len(held_out))
    if 0 < most < len(rows):
        rows = np.random.default_rng(seed).permutation(rows)[:most]
    lengths = held_out.history_ends[rows] - data.events.offsets[held_out.users[rows]]
    return rows[np.argsort(lengths, kind="stable")]
