"""What a fit did and cost: losses, events, targets, seconds, memory; logged every few steps."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as L
import torch
from torch import Tensor

from recascade.errors import TrainingError
from recascade.training.curves import CurvesLogger


class CountedBatch(Protocol):
    """A training batch that knows its size."""

    @property
    def event_count(self) -> int:
        """Events (or list entries) that go through the model."""
        ...

    @property
    def target_count(self) -> int:
        """Predictions that the loss sums over."""
        ...


class Meter(L.Callback):
    """Counts, and writes a line to the loggers every ``every`` steps.

    A step only writes its loss into a buffer on the device; nobody waits for it until the line is written. The same
    moment checks the losses, so a loss that is not a number stops the fit at most ``every`` steps late and always
    before a checkpoint is written. Totals go on after an interruption. Where several processes train together, figures
    are those of all of them, but for memory and CPU time.

    Args:
        every: steps between lines.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.events = 0
        self.targets = 0
        self.total = {"events": 0, "targets": 0}
        self.loss = float("nan")
        self.targets_per_second = 0.0
        self._buffer: Tensor | None = None
        self._pending = 0
        self._earlier_losses: Tensor | None = None
        self._earlier = {"seconds": 0.0, "cpu_seconds": 0.0}
        self._begin = (time.perf_counter(), cpu_seconds())
        self._line = (self._begin[0], 0, 0)

    @property
    def seconds(self) -> float:
        """Wall time of the fit so far, earlier parts of an interrupted one included."""
        return self._earlier["seconds"] + time.perf_counter() - self._begin[0]

    @property
    def cpu_seconds(self) -> float:
        """CPU time likewise, of this process alone and its finished loader processes."""
        return self._earlier["cpu_seconds"] + cpu_seconds() - self._begin[1]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the counts where the checkpoint left them."""
        self._buffer = torch.zeros(self.every, device=pl_module.device)
        if self._earlier_losses is not None:
            self._buffer[: self._pending] = self._earlier_losses
            self._earlier_losses = None
        for logger in trainer.loggers:
            if isinstance(logger, CurvesLogger):
                logger.rewind(trainer.global_step)
        self._begin_line()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: CountedBatch, batch_idx: int
    ) -> None:
        """Note the step; write a line when it is time."""
        assert self._buffer is not None
        self.events += batch.event_count
        self.targets += batch.target_count
        self._buffer[self._pending] = outputs["loss"]
        self._pending += 1
        if self._pending == self.every:
            self._write_line(trainer)

    def check(self, trainer: L.Trainer) -> None:
        """Look at the losses of the steps since the last line; every process must take part.

        Raises:
            TrainingError: one of them is not a finite number.
        """
        self._checked_losses(trainer)

    def _checked_losses(self, trainer: L.Trainer) -> Tensor:
        """float ``[pending]``, the losses since the last line, means over all targets of their step."""
        if self._buffer is None:
            return torch.zeros(0)
        # A process's loss is weighted, so that the mean over processes is the mean over the targets.
        losses = trainer.strategy.reduce(self._buffer[: self._pending].clone(), reduce_op="mean")
        if not bool(losses.isfinite().all()):
            first = int((~losses.isfinite()).nonzero()[0])
            step = trainer.global_step - self._pending + first + 1
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            raise TrainingError(
                f"The loss of step {step} is {losses[first].item()} (learning rate {rate:g}, epoch "
                f"{trainer.current_epoch + 1}). Lower trainer.learning_rate, set trainer.gradient_clip=1 or use "
                "trainer.precision=32-true; the last good checkpoint is kept."
            )
        return losses

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A line before the validation: its time is not the training's."""
        self._write_pending(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the next line."""
        self._begin_line()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A line at each epoch's end, so that short epochs have one too."""
        self._write_pending(trainer)

    def _write_pending(self, trainer: L.Trainer) -> None:
        if self._pending:
            self._write_line(trainer)

    def _begin_line(self) -> None:
        self._line = (time.perf_counter(), self.total["events"], self.total["targets"])

    def _write_line(self, trainer: L.Trainer) -> None:
        assert self._buffer is not None
        losses = self._checked_losses(trainer)
        self._add_up(trainer)
        then, events, targets = self._line
        seconds = time.perf_counter() - then
        self.loss = float(losses.mean())
        self.targets_per_second = (self.total["targets"] - targets) / seconds
        line = {
            "loss": self.loss,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "events_per_second": (self.total["events"] - events) / seconds,
            "targets_per_second": self.targets_per_second,
            "memory_bytes": float(resident_bytes()),
        }
        if self._buffer.is_cuda:
            line["accelerator_memory_bytes"] = float(torch.cuda.max_memory_allocated(self._buffer.device))
        for logger in trainer.loggers:
            logger.log_metrics({**line, "epoch": trainer.current_epoch}, trainer.global_step)
        self._pending = 0
        self._begin_line()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add up over the processes."""
        self._add_up(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Totals, and the losses that no line has reported yet."""
        self._add_up(trainer)
        checkpoint["meter"] = {
            **self.total,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "losses": self._checked_losses(trainer).cpu(),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up the totals."""
        state = checkpoint["meter"]
        self.total = {name: state[name] for name in self.total}
        self._earlier = {name: state[name] for name in self._earlier}
        self._earlier_losses = state["losses"]
        self._pending = len(state["losses"])

    def _add_up(self, trainer: L.Trainer) -> None:
        """Move the counts of all processes since the last time into the totals."""
        counts = torch.tensor([self.events, self.targets], device=trainer.strategy.root_device)
        events, targets = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        self.total["events"] += events
        self.total["targets"] += targets
        self.events = self.targets = 0


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def resident_bytes() -> int:
    """Memory this process holds now (Linux), or its peak where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
