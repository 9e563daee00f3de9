"""Training and validation batches of candidate lists."""

from __future__ import annotations

import lightning.pytorch as L
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from recascade.data.batching import BatchSettings
from recascade.data.loader import ResumableLoader, evaluation_loader, training_loader
from recascade.data.reranking_batch import RerankingBatch
from recascade.data.reranking_lists import RerankingLists
from recascade.errors import DataError


class RerankingData(L.LightningDataModule):
    """Batches of the training lists, and of the validation lists in order.

    Lists without a positive label are not trained on: no order of them is better than another.

    Args:
        lists: all lists.
        settings: batch sizes, buckets, workers (a ``TrainerConfig`` will do); a list's events are its candidates.
        seed: of the run.

    Raises:
        DataError: no training list has a positive label.
    """

    def __init__(self, lists: RerankingLists, settings: BatchSettings, *, seed: int = 0) -> None:
        super().__init__()
        self.lists = lists
        self.settings = settings
        self.seed = seed
        self.training = learnable(lists, lists.rows("train"))
        self.validation = _sample(lists.rows("validation"), settings.validation_users, seed)
        if not len(self.training):
            raise DataError("No training list has a positive label, so there is nothing to learn from.")

    def train_dataloader(self) -> ResumableLoader[RerankingBatch]:
        """Every training list once per epoch, over all ranks."""
        lengths = self.lists.lengths[self.training]
        return training_loader(self._training_batch, lengths, self.settings, self, seed=self.seed)

    def val_dataloader(self) -> DataLoader[RerankingBatch]:
        """Every validation list once, in order."""
        size = self.settings.batch_sequences
        return evaluation_loader(self.lists.batch, self.validation, size, self, self.settings.workers)

    def _training_batch(self, indices: NDArray[np.int64]) -> RerankingBatch:
        return self.lists.batch(self.training[indices])


def learnable(lists: RerankingLists, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the given lists that have a positive label."""
    positive = np.add.reduceat(lists.labels > 0, lists.offsets[:-1], dtype=np.int64)
    return rows[positive[rows] > 0]


def _sample(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    if not 0 < most < len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
