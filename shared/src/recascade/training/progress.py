"""One line on the terminal that says how far training is."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recascade.training.meter import Meter
from recascade.training.selection import Selection

SECONDS_BETWEEN_DRAWINGS = 0.5


class ProgressBar(L.Callback):
    """Draws twice a second at most; between drawings a step costs one look at the clock.

    Args:
        meter: gives the loss and the speed.
        selection: gives the best validation so far.
    """

    def __init__(self, meter: Meter, selection: Selection) -> None:
        self.meter = meter
        self.selection = selection
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[measured]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._drawn = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to draw."""
        if trainer.is_global_zero:
            self.progress.start()
            self.task = self.progress.add_task("", total=None, epoch="", measured="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if the last drawing is old enough."""
        now = time.monotonic()
        if now - self._drawn < SECONDS_BETWEEN_DRAWINGS or not trainer.is_global_zero:
            return
        self._drawn = now
        best = (
            ""
            if self.selection.best_value is None
            else (
                f"  best {self.selection.monitor} {self.selection.best_value:.4f} (epoch {self.selection.best_epoch})"
            )
        )
        self.progress.update(
            self.task,
            completed=batch_idx + 1,
            total=trainer.num_training_batches,
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            measured=f"loss {self.meter.loss:.4f}  {self.meter.targets_per_second:,.0f} targets/s{best}",
        )
        self.progress.refresh()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the bar away."""
        self.progress.stop()
