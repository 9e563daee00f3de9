"""Judged lists: candidates of a query with features and graded labels, for ranking and re-ranking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from recascade.data.batching import BatchSettings
from recascade.data.events import offsets_of, ranges
from recascade.data.loader import ResumableLoader, evaluation_loader, training_loader
from recascade.data.schema import explain_read_failure
from recascade.errors import DataError


@dataclass(frozen=True)
class JudgedLists:
    """Q lists with D documents in all, each list contiguous.

    Attributes:
        query_ids: Q strings.
        document_ids: D strings.
        offsets: int64 ``[Q + 1]``; list q owns documents ``offsets[q]`` to ``offsets[q + 1]``.
        labels: float32 ``[D]``, higher is better.
        features: float32 ``[D, F]``, NaN where unknown.
        initial_positions: int64 ``[D]``, place given by an earlier stage, from 0; -1 where unknown.
        folds: int64 ``[Q]``.
    """

    query_ids: pl.Series
    document_ids: pl.Series
    offsets: NDArray[np.int64]
    labels: NDArray[np.float32]
    features: NDArray[np.float32]
    initial_positions: NDArray[np.int64]
    folds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.folds)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 ``[Q]``, documents per list."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class ListBatch:
    """B lists, packed: T documents in all.

    Attributes:
        lists: int64 ``[B]``, rows of ``JudgedLists``.
        offsets: int64 ``[B + 1]``; list b owns documents ``offsets[b]`` to ``offsets[b + 1]``.
        features: float32 ``[T, F]``, standardised, 0 where unknown.
        labels: float32 ``[T]``.
        initial_positions: int64 ``[T]``, -1 where unknown.
    """

    lists: Tensor
    offsets: Tensor
    features: Tensor
    labels: Tensor
    initial_positions: Tensor

    @property
    def event_count(self) -> int:
        """T."""
        return self.labels.numel()

    @property
    def target_count(self) -> int:
        """T."""
        return self.labels.numel()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ListBatch:
        """The same batch on another device."""
        return ListBatch(
            self.lists.to(device, non_blocking=non_blocking),
            self.offsets.to(device, non_blocking=non_blocking),
            self.features.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.initial_positions.to(device, non_blocking=non_blocking),
        )


def read_lists(path: Path) -> JudgedLists:
    """Read ``lists.parquet``: query_id, doc_id, label, features (list of numbers), fold, and maybe initial_position.

    Raises:
        DataError: the file is damaged, a column is missing or of the wrong type, a document stands twice in a list, or
            a list lies in two folds.
    """
    with explain_read_failure(path):
        table = pl.read_parquet(path)
    needed = {"query_id", "doc_id", "label", "features", "fold"}
    if missing := sorted(needed - set(table.columns)):
        raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(table.columns)}. Rename the columns.")
    if table["label"].has_nulls() or not table["label"].dtype.is_numeric():
        raise DataError(f"Column 'label' of {path} must be numbers without nulls, but it is {table['label'].dtype}.")
    # Lists keep the order in which they first appear, and documents their order within the list.
    table = table.with_row_index("row").with_columns(list=pl.col("row").min().over("query_id"))
    table = table.sort("list", maintain_order=True)
    repeated = table.select("query_id", "doc_id").is_duplicated()
    if repeated.any():
        query, document = table.filter(repeated).select("query_id", "doc_id").row(0)
        raise DataError(f"Document {document!r} stands more than once in list {query!r} of {path}; keep one of them.")
    lists = table.group_by("list", maintain_order=True).agg(
        pl.col("query_id").first(),
        pl.len().alias("length"),
        pl.col("fold").first(),
        pl.col("fold").n_unique().alias("n"),
    )
    if (torn := lists.filter(pl.col("n") > 1)).height:
        raise DataError(f"List {torn['query_id'][0]!r} of {path} lies in {torn['n'][0]} folds; put it into one.")
    positions = (
        table["initial_position"].cast(pl.Int64).fill_null(-1).to_numpy()
        if "initial_position" in table.columns
        else np.full(len(table), -1)
    )
    return JudgedLists(
        query_ids=lists["query_id"].cast(pl.String),
        document_ids=table["doc_id"].cast(pl.String),
        offsets=offsets_of(lists["length"].cast(pl.Int64).to_numpy()),
        labels=table["label"].cast(pl.Float32).to_numpy(),
        features=_matrix(table["features"], path),
        initial_positions=positions,
        folds=lists["fold"].cast(pl.Int64).to_numpy(),
    )


def _matrix(features: pl.Series, path: Path) -> NDArray[np.float32]:
    """float32 ``[D, F]`` of a column of lists of equal length; nulls become NaN."""
    if not isinstance(features.dtype, (pl.List, pl.Array)):
        raise DataError(f"Column 'features' of {path} must hold lists of numbers, but it is {features.dtype}.")
    as_lists = features.cast(pl.List(pl.Float32))
    widths = as_lists.list.len()
    if widths.has_nulls() or widths.n_unique() > 1:
        raise DataError(f"Column 'features' of {path} must hold lists of one length, none of them null.")
    width = int(widths[0]) if len(widths) else 0
    values = as_lists.explode().fill_null(float("nan")).to_numpy() if width else np.zeros(0, dtype=np.float32)
    return values.reshape(len(features), width)


class ListData(L.LightningDataModule):
    """Training and validation batches of whole lists.

    Features are standardised with the mean and deviation of the training lists; an unknown value becomes 0, the mean.

    Args:
        lists: all lists.
        settings: batch sizes, buckets, workers (a ``TrainerConfig`` will do); a list's events are its documents.
        validation_fold: lists to validate on.
        test_fold: lists to leave alone; all other folds are trained on.
        seed: of the run.

    Raises:
        DataError: no list is left for training.
    """

    def __init__(
        self, lists: JudgedLists, settings: BatchSettings, *, validation_fold: int, test_fold: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.lists = lists
        self.settings = settings
        self.seed = seed
        self.training = np.flatnonzero((lists.folds != validation_fold) & (lists.folds != test_fold))
        self.validation = np.flatnonzero(lists.folds == validation_fold)
        self.test = np.flatnonzero(lists.folds == test_fold)
        if not len(self.training):
            raise DataError(
                f"Folds {sorted(set(lists.folds.tolist()))} without validation fold {validation_fold} and test fold "
                f"{test_fold} leave no list to train on."
            )
        trained = lists.features[ranges(lists.offsets[self.training], lists.lengths[self.training])]
        known = np.isfinite(trained)
        counts = np.maximum(known.sum(0), 1)
        mean = np.where(known, trained, 0).sum(0, dtype=np.float64) / counts
        deviation = np.sqrt((np.where(known, trained - mean, 0) ** 2).sum(0, dtype=np.float64) / counts)
        scaled = (lists.features - mean) / np.where(deviation > 0, deviation, 1.0)
        self._features = np.where(np.isfinite(scaled), scaled, 0.0).astype(np.float32)

    def train_dataloader(self) -> ResumableLoader[ListBatch]:
        """Every training list once per epoch, over all ranks."""
        lengths = self.lists.lengths[self.training]
        return training_loader(self._training_batch, lengths, self.settings, self, seed=self.seed)

    def val_dataloader(self) -> DataLoader[ListBatch]:
        """Every list of the validation fold once, in order."""
        return self._in_order(self.validation)

    def test_dataloader(self) -> DataLoader[ListBatch]:
        """Every list of the test fold once, in order."""
        return self._in_order(self.test)

    def _in_order(self, rows: NDArray[np.int64]) -> DataLoader[ListBatch]:
        return evaluation_loader(self.batch, rows, self.settings.batch_sequences, self, self.settings.workers)

    def _training_batch(self, indices: NDArray[np.int64]) -> ListBatch:
        return self.batch(self.training[indices])

    def batch(self, rows: NDArray[np.int64]) -> ListBatch:
        """The given lists (int64 ``[B]``, rows of ``self.lists``)."""
        lists = self.lists
        lengths = lists.lengths[rows]
        documents = ranges(lists.offsets[rows], lengths)
        return ListBatch(
            lists=torch.from_numpy(rows),
            offsets=torch.from_numpy(offsets_of(lengths)),
            features=torch.from_numpy(self._features[documents]),
            labels=torch.from_numpy(lists.labels[documents]),
            initial_positions=torch.from_numpy(lists.initial_positions[documents]),
        )
