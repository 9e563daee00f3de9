"""Click-through prediction: impressions with a label, each with what its user had clicked before."""

from __future__ import annotations

from dataclasses import dataclass

import lightning.pytorch as L
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from recascade.contracts.context import Context
from recascade.data.batching import BatchSettings
from recascade.data.events import EventSequences, offsets_of, ranges
from recascade.data.features import FeatureTable
from recascade.data.loader import ResumableLoader, evaluation_loader, training_loader
from recascade.data.vocabulary import Vocabulary
from recascade.errors import DataError, did_you_mean


@dataclass(frozen=True)
class ClickLog:
    """N impressions, in the order of their table.

    Attributes:
        users: int64 ``[N]``, index in the user vocabulary; -1 where there is none or it does not hold the user.
        items: int64 ``[N]``, the item shown; -1 outside the vocabulary.
        timestamps: int64 ``[N]``, seconds.
        labels: float32 ``[N]``, 1 clicked, 0 not.
        clicks: the clicked impressions of each user of the vocabulary, oldest first, items of the vocabulary only.
        history_ends: int64 ``[N]``; impression n knows ``clicks`` from its user's offset to here, all of them earlier
            than itself (events of the same second are not known yet).
        features: of the N impressions (place, page, user attributes), or None.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    labels: NDArray[np.float32]
    clicks: EventSequences
    history_ends: NDArray[np.int64]
    features: FeatureTable | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def history_starts(self) -> NDArray[np.int64]:
        """int64 ``[N]``, where the impression's user begins in ``clicks``; ``history_ends`` where there is no user."""
        return np.where(self.users >= 0, self.clicks.offsets[np.maximum(self.users, 0)], self.history_ends)


@dataclass(frozen=True)
class ClickBatch:
    """B impressions.

    Attributes:
        context: each impression's user, time (``now``) and earlier clicks.
        items: int64 ``[B]``, the item shown; -1 outside the vocabulary.
        labels: float32 ``[B]``.
        categorical: int64 ``[B, C]``, codes of the impression's features; C may be 0.
        numeric: float32 ``[B, M]``, standardised; M may be 0.
    """

    context: Context
    items: Tensor
    labels: Tensor
    categorical: Tensor
    numeric: Tensor

    @property
    def event_count(self) -> int:
        """Events of the histories and the impressions themselves."""
        return self.context.items.numel() + self.items.numel()

    @property
    def target_count(self) -> int:
        """B."""
        return self.labels.numel()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ClickBatch:
        """The same batch on another device."""
        return ClickBatch(
            self.context.to(device, non_blocking=non_blocking),
            self.items.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.categorical.to(device, non_blocking=non_blocking),
            self.numeric.to(device, non_blocking=non_blocking),
        )


def encode_clicks(
    impressions: pl.DataFrame,
    items: Vocabulary,
    users: Vocabulary | None = None,
    *,
    label: str = "click",
    features: FeatureTable | None = None,
) -> ClickLog:
    """Turn a table of impressions into arrays.

    Args:
        impressions: ``item_id``, ``timestamp`` (int64 seconds) and the label; ``user_id`` if ``users`` is given.
        items: item vocabulary, made from the training rows.
        users: user vocabulary; None for a log that does not know its users.
        label: column that is positive (or true) where the item was clicked.
        features: of the impressions, in the order of the table.

    Raises:
        DataError: a column is missing, or a label or a time is null.
    """
    for column in ("item_id", "timestamp", label, *(("user_id",) if users is not None else ())):
        if column not in impressions.columns:
            hint = did_you_mean(column, impressions.columns)
            raise DataError(f"The impressions have no column {column!r}.{hint} Rename it, or name the label's column.")
        if column in (label, "timestamp") and impressions[column].has_nulls():
            row = int(impressions[column].is_null().arg_max() or 0)
            raise DataError(f"Column {column!r} of the impressions is null in row {row}; fill or drop such rows.")
    timestamps = impressions["timestamp"].cast(pl.Int64).to_numpy()
    item_indices = items.encode(impressions["item_id"], unknown=-1)
    user_indices = np.full(len(timestamps), -1) if users is None else users.encode(impressions["user_id"], unknown=-1)
    labels = (impressions[label].cast(pl.Float32) > 0).to_numpy().astype(np.float32)
    user_count = 0 if users is None else len(users)
    clicks, history_ends = _histories(user_indices, item_indices, timestamps, labels > 0, user_count)
    return ClickLog(user_indices, item_indices, timestamps, labels, clicks, history_ends, features)


def _histories(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    clicked: NDArray[np.bool_],
    user_count: int,
) -> tuple[EventSequences, NDArray[np.int64]]:
    """Each user's clicks, and for each impression where those before its second end."""
    clicked = clicked & (users >= 0) & (items >= 0)
    by_user = np.lexsort((timestamps, users))
    clicks = by_user[clicked[by_user]]
    lengths = np.bincount(users[clicks], minlength=user_count)
    events = EventSequences(
        offsets=offsets_of(lengths),
        items=items[clicks].astype(np.int32),
        timestamps=timestamps[clicks],
        groups=ranges(np.zeros_like(lengths), lengths).astype(np.int32),
    )
    sorted_users, sorted_times = users[by_user], timestamps[by_user]
    new_moment = np.ones(len(by_user), dtype=bool)
    new_moment[1:] = (sorted_users[1:] != sorted_users[:-1]) | (sorted_times[1:] != sorted_times[:-1])
    clicks_before: NDArray[np.int64] = np.cumsum(clicked[by_user]) - clicked[by_user]
    moment = np.cumsum(new_moment) - 1
    ends = np.empty(len(by_user), dtype=np.int64)
    ends[by_user] = clicks_before[new_moment][moment]
    ends[users < 0] = 0
    return events, ends


def temporal_parts(
    timestamps: NDArray[np.int64], validation_fraction: float, test_fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training, validation and test part, cut at two moments; rows of one second stay together.

    Args:
        timestamps: int64 ``[N]``.
        validation_fraction: share of the rows before the test part that come last.
        test_fraction: share of the latest rows.

    Raises:
        DataError: the training part would be empty.
    """
    ordered = np.sort(timestamps)
    end = len(ordered)
    if not end or validation_fraction + test_fraction >= 1:
        raise DataError(
            f"{end} impressions with validation_fraction={validation_fraction} and test_fraction={test_fraction} "
            "leave nothing to train on; choose smaller fractions."
        )
    test_from = ordered[min(end - 1, round(end * (1 - test_fraction)))] if test_fraction else ordered[-1] + 1
    validation_at = min(end - 1, round(end * (1 - test_fraction - validation_fraction)))
    validation_from = ordered[validation_at] if validation_fraction else test_from
    rows = np.arange(len(timestamps))
    training = timestamps < validation_from
    if not training.any():
        raise DataError(
            "Too many impressions share one second, so none comes before the validation part; choose smaller fractions."
        )
    test = timestamps >= test_from
    return rows[training], rows[~training & ~test], rows[test]


class ClickData(L.LightningDataModule):
    """Training and validation batches of impressions.

    Args:
        log: the encoded log.
        settings: batch sizes, buckets, workers (a ``TrainerConfig`` will do); an impression counts as one event and its
            history as the others.
        training: int64, rows of ``log`` to train on.
        validation: int64, rows to validate on.
        max_history: most clicks of a history, the latest.
        seed: of the run.
    """

    def __init__(
        self,
        log: ClickLog,
        settings: BatchSettings,
        *,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        max_history: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.log = log
        self.settings = settings
        self.training = training
        self.validation = validation
        self.seed = seed
        self._lengths = np.minimum(log.history_ends - log.history_starts, max_history)

    def train_dataloader(self) -> ResumableLoader[ClickBatch]:
        """Every training row once per epoch, over all ranks."""
        lengths = self._lengths[self.training] + 1
        return training_loader(self._training_batch, lengths, self.settings, self, seed=self.seed)

    def val_dataloader(self) -> DataLoader[ClickBatch]:
        """Every validation row once, in order."""
        size = self.settings.batch_sequences
        return evaluation_loader(self.batch, self.validation, size, self, self.settings.workers)

    def _training_batch(self, indices: NDArray[np.int64]) -> ClickBatch:
        return self.batch(self.training[indices])

    def batch(self, rows: NDArray[np.int64]) -> ClickBatch:
        """The impressions of the given rows of the log."""
        log = self.log
        lengths = self._lengths[rows]
        events = ranges(log.history_ends[rows] - lengths, lengths)
        context = Context(
            users=torch.from_numpy(log.users[rows]),
            items=torch.from_numpy(log.clicks.items[events].astype(np.int64)),
            timestamps=torch.from_numpy(log.clicks.timestamps[events]),
            offsets=torch.from_numpy(offsets_of(lengths)),
            now=torch.from_numpy(log.timestamps[rows]),
        )
        if log.features is None:
            categorical, numeric = torch.zeros(len(rows), 0, dtype=torch.int64), torch.zeros(len(rows), 0)
        else:
            categorical = torch.from_numpy(log.features.categorical[rows].astype(np.int64))
            numeric = torch.from_numpy(log.features.numeric[rows])
        return ClickBatch(
            context, torch.from_numpy(log.items[rows]), torch.from_numpy(log.labels[rows]), categorical, numeric
        )
