"""Training batches that know what their targets are worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from recascade.data.batching import BatchSettings
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.data.loader import ResumableLoader, training_loader
from recascade.data.next_item import NextItemBatch
from recascade.data.prefixes import PrefixData
from recascade_gr4ad.ad_values import AdValues
from recascade_gr4ad.config import ValuesConfig
from recascade_gr4ad.value_buckets import ValueBuckets
from recascade_gr4ad.vsl import user_weights


@dataclass(frozen=True)
class AdBatch:
    """B requests with N targets.

    Attributes:
        requests: histories and targets; each sequence predicts after its last event.
        buckets: int64 ``[N]``, eCPM bucket of each target, -1 where unknown.
        weights: float32 ``[N]``, w of each target.
    """

    requests: NextItemBatch
    buckets: Tensor
    weights: Tensor

    @property
    def event_count(self) -> int:
        """Events that go through the model."""
        return self.requests.event_count

    @property
    def target_count(self) -> int:
        """N."""
        return self.requests.target_count

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> AdBatch:
        """The same batch on another device."""
        return AdBatch(
            self.requests.to(device, non_blocking=non_blocking),
            self.buckets.to(device, non_blocking=non_blocking),
            self.weights.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True)
class EventWorth:
    """What training makes of values: per event of ``EncodedSplit.events`` int64 ``buckets`` (-1: unknown) and float32
    ``weights`` of mean 1 over training events; per user float64 ``user_values``, the sum of its training values."""

    buckets: NDArray[np.int64]
    weights: NDArray[np.float32]
    user_values: NDArray[np.float64]


def event_worth(
    data: EncodedSplit, values: AdValues | None, edges: ValueBuckets | None, config: ValuesConfig
) -> EventWorth:
    """Buckets and weights ``w = w_user · w_behaviour`` of all events; without values all weigh 1.

    Args:
        data: the encoded split.
        values: of its events.
        edges: of the buckets; None for no eCPM step.
        config: which weights.
    """
    count, users = len(data.events.items), len(data.users)
    if values is None:
        return EventWorth(np.full(count, -1), np.ones(count, dtype=np.float32), np.zeros(users))
    trained = ranges(data.events.offsets[:-1], data.train_lengths)
    owners = np.repeat(np.arange(users), data.train_lengths)
    user_values: NDArray[np.float64] = np.bincount(
        owners, weights=np.nan_to_num(values.events[trained]), minlength=users
    ).astype(float)
    weights = np.ones(count)
    if config.user_weights:
        per_user = user_weights(torch.from_numpy(user_values)).numpy()
        weights *= np.repeat(per_user, data.events.lengths)
    weights *= np.where(values.deep, config.deep_weight, 1.0)
    buckets = np.full(count, -1) if edges is None else edges.of(values.events)
    return EventWorth(buckets, (weights / weights[trained].mean()).astype(np.float32), user_values)


class AdData(L.LightningDataModule):
    """One training sequence per target, with the targets' worth; validation as for any next-item model.

    Args:
        data: the encoded split; its test part is not touched.
        worth: of its events.
        settings: batch sizes, buckets, workers (a ``TrainerConfig`` will do).
        max_length: most events per training sequence.
        seed: of the run.
    """

    def __init__(
        self, data: EncodedSplit, worth: EventWorth, settings: BatchSettings, *, max_length: int, seed: int
    ) -> None:
        super().__init__()
        self.data = data
        self.worth = worth
        self.settings = settings
        self.seed = seed
        self.prefixes = PrefixData(data, settings, max_length=max_length, seed=seed)

    def train_dataloader(self) -> ResumableLoader[AdBatch]:
        """Every target once per epoch, over all ranks."""
        lengths = self.prefixes.windows.lengths
        return training_loader(self.training_batch, lengths, self.settings, self, seed=self.seed)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Rows of the validation part."""
        self.prefixes.trainer = self.trainer
        return self.prefixes.val_dataloader()

    def training_batch(self, indices: NDArray[np.int64]) -> AdBatch:
        """The batch of the given prefixes (int64 ``[B]``, rows of ``self.prefixes.windows``)."""
        windows = self.prefixes.windows
        ends = windows.starts[indices] + windows.lengths[indices]
        targets = ranges(ends, windows.followers[ends - 1].astype(np.int64))
        return AdBatch(
            self.prefixes.training_batch(indices),
            torch.from_numpy(self.worth.buckets[targets]),
            torch.from_numpy(self.worth.weights[targets]),
        )


def first_targets(batch: AdBatch) -> AdBatch:
    """The same requests with the first target of each alone."""
    owners = batch.requests.owners
    if owners is None:
        return batch
    first = torch.searchsorted(owners, torch.arange(batch.requests.context.batch_size, device=owners.device))
    requests = replace(batch.requests, targets=batch.requests.targets[first], owners=None)
    return AdBatch(requests, batch.buckets[first], batch.weights[first])
