"""Resumable checkpoints: written whole or not at all, read without pickle, often enough to lose minutes at most."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO

from recascade.errors import TrainingError
from recascade.files import write_atomically
from recascade.training.meter import Meter


class SafeCheckpointIO(CheckpointIO):
    """Reads and writes checkpoints of tensors and plain values, nothing that could run code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write atomically."""
        # Through Python's own file, so that a full disk is reported as one.
        with write_atomically(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values only, whatever ``weights_only`` says.

        Raises:
            TrainingError: the file is damaged, or holds something else.
        """
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise TrainingError(
                f"{path} is not a checkpoint that can be read safely ({type(error).__name__}). "
                "Delete it to start the training again."
            ) from error
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


class Interrupted(Exception):
    """The user or the system asked to stop; a checkpoint has been written."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class ResumePoint(Checkpoint):
    """Writes ``path`` at each epoch's end, every ``minutes`` within an epoch, and when Ctrl-C or SIGTERM asks to stop.

    The first signal lets the step (or the validation) under way finish, so that the checkpoint is consistent; a second
    one stops at once. Processes that train together ask each other only when a line of the log is due.

    Lightning calls a ``Checkpoint`` after all other callbacks, a module's own included: what they make of a step is in
    the checkpoint of that step.

    Args:
        path: the checkpoint.
        minutes: between checkpoints within an epoch.
        meter: checks the losses first, so that no checkpoint holds weights spoilt by a loss that is not a number.
    """

    def __init__(self, path: Path, minutes: float, meter: Meter) -> None:
        self.path = path
        self.interval = 60.0 * minutes
        self.meter = meter
        self._written = time.monotonic()
        self._signal = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for signals."""
        self._written = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, self._remember) for number in (signal.SIGINT, signal.SIGTERM)
            }

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._restore_handlers()
        self._signal = number

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time. After an epoch's last step validation comes first: see ``on_train_epoch_end``."""
        at_limit = trainer.global_step == trainer.max_steps
        if trainer.world_size > 1 and not at_limit and trainer.global_step % self.meter.every:
            return
        due = self._is_due(trainer)
        if (due or at_limit) and not trainer.is_last_batch:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, after the validation; an epoch that the step limit cuts short has been written already."""
        self._is_due(trainer)
        if trainer.is_last_batch:
            self._write(trainer)

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Whether a signal asks for a checkpoint, or the time; processes that train together answer alike."""
        late = time.monotonic() - self._written >= self.interval
        if trainer.world_size > 1:
            wishes = torch.tensor([self._signal, int(late)], device=trainer.strategy.root_device)
            self._signal, late = trainer.strategy.reduce(wishes, reduce_op="max").tolist()
        return bool(self._signal or late)

    def _write(self, trainer: L.Trainer) -> None:
        self.meter.check(trainer)
        trainer.save_checkpoint(self.path)
        self._written = time.monotonic()
        if self._signal:
            raise Interrupted(self._signal)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
