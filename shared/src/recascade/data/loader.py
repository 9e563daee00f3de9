"""The training loader of every task: yields whole batches, and knows how to go on after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import lightning.pytorch as L
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from recascade.data.batching import BatchSettings, batch_count, plan_batches
from recascade.errors import DataError, TrainingError

Batch = TypeVar("Batch")
Assemble = Callable[[NDArray[np.int64]], Batch]
Stage = Callable[[Iterator[Batch]], Iterator[Batch]]


class ResumableLoader(Generic[Batch]):
    """The batches of one rank, epoch after epoch; each batch is a pure function of (seed, epoch, index).

    The trainer says which epoch begins (``set_epoch``); the loader counts the batches it has handed out. That count is
    the whole state, so ``state_dict`` taken after any batch continues with the next one, bit for bit, whatever the
    number of workers then or now; with another number of ranks it continues with the same batches, shared out anew.

    ``stage`` is what batches go through on their way to the trainer, nothing by default; it may fetch ahead.

    Args:
        assemble: makes a batch of sequence indices (int64 ``[n]``).
        lengths: int64 ``[N]``, events per sequence.
        settings: batch sizes, bucket and workers.
        seed: of the run.
        rank: this process among ``world_size`` that train together.
        world_size: their number.
    """

    def __init__(
        self,
        assemble: Assemble[Batch],
        lengths: NDArray[np.int64],
        settings: BatchSettings,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.assemble = assemble
        self.lengths = lengths
        self.settings = settings
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.index = 0
        self.stage: Stage[Batch] = iter
        self._batches = batch_count(
            lengths,
            batch_sequences=settings.batch_sequences,
            batch_tokens=settings.batch_tokens,
            world_size=world_size,
        )

    def __len__(self) -> int:
        return self._batches

    @property
    def sampler(self) -> ResumableLoader[Batch]:
        """Lightning calls ``loader.sampler.set_epoch`` when an epoch begins."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Begin ``epoch``; the one already under way goes on where it is."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.index = 0

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing is planned before the first batch is asked for, by which time the epoch is known.
        plan = plan_batches(
            self.lengths,
            batch_sequences=self.settings.batch_sequences,
            batch_tokens=self.settings.batch_tokens,
            bucket=self.settings.bucket,
            seed=self.seed,
            epoch=self.epoch,
            rank=self.rank,
            world_size=self.world_size,
        )[self.index :]
        # What a stage has fetched ahead of the trainer is not handed out yet, and not counted.
        for batch in self.stage(self._load(plan)):
            self.index += 1
            yield batch
        self.index = 0

    def _load(self, plan: list[NDArray[np.int64]]) -> Iterator[Batch]:
        """The planned batches in order, assembled here or ahead of time by worker processes."""
        if self.settings.workers == 0:
            return map(self.assemble, plan)
        batches = _PlannedBatches(self.assemble, plan)
        return iter(DataLoader(batches, batch_size=None, num_workers=self.settings.workers))

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, and what the plan depends on."""
        return {"epoch": self.epoch, "index": self.index, "plan": self._plan_identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            TrainingError: the state belongs to other data, another seed or other batch settings.
        """
        mine, theirs = self._plan_identity(), state["plan"]
        different = [name for name in mine if mine[name] != theirs.get(name)]
        if different:
            changes = ", ".join(f"{name} was {theirs.get(name)} and is now {mine[name]}" for name in different)
            raise TrainingError(
                f"The checkpoint belongs to another run: {changes}. Continue with the same data and settings, "
                "or start again in another directory."
            )
        self.epoch, self.index = state["epoch"], state["index"]

    def _plan_identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "sequences": len(self.lengths),
            "events": int(self.lengths.sum()),
            "batch_sequences": self.settings.batch_sequences,
            "batch_tokens": self.settings.batch_tokens,
            "bucket": self.settings.bucket,
        }


def training_loader(
    assemble: Assemble[Batch],
    lengths: NDArray[np.int64],
    settings: BatchSettings,
    data_module: L.LightningDataModule,
    *,
    seed: int,
) -> ResumableLoader[Batch]:
    """The ``ResumableLoader`` of this process's share of a data module's training batches."""
    rank, world_size = _place_of(data_module)
    return ResumableLoader(assemble, lengths, settings, seed=seed, rank=rank, world_size=world_size)


def evaluation_loader(
    assemble: Assemble[Batch],
    rows: NDArray[np.int64],
    batch_rows: int,
    data_module: L.LightningDataModule,
    workers: int,
) -> DataLoader[Batch]:
    """A loader that goes through ``rows`` in their order, ``batch_rows`` at a time; ranks take turns.

    Args:
        assemble: makes a batch of rows (int64 ``[n]``).
        rows: int64 ``[E]``.
        batch_rows: most rows of a batch.
        data_module: whose trainer says how many ranks there are.
        workers: loader processes; 0 assembles in this one.

    Raises:
        DataError: fewer rows than ranks; one without rows would leave out the validation that the others wait in.
    """
    rank, world_size = _place_of(data_module)
    if 0 < len(rows) < world_size:
        raise DataError(
            f"There are {len(rows)} validation rows for {world_size} training processes. Train on fewer devices."
        )
    rows = rows[rank::world_size]
    batches = _PlannedBatches(assemble, [rows[start : start + batch_rows] for start in range(0, len(rows), batch_rows)])
    return DataLoader(batches, batch_size=None, num_workers=workers)


def _place_of(data_module: L.LightningDataModule) -> tuple[int, int]:
    """Rank and world size of the trainer that a data module serves; (0, 1) while there is none."""
    trainer = data_module.trainer
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


class _PlannedBatches(Dataset[Batch]):
    """A plan as a map-style data set whose elements are whole batches, which is what worker processes can share out."""

    def __init__(self, assemble: Assemble[Batch], plan: list[NDArray[np.int64]]) -> None:
        self.assemble = assemble
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch:
        return self.assemble(self.plan[index])
