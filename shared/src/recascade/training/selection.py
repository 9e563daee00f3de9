"""Which weights are kept, and when to stop early."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from safetensors.torch import load_model, save_file, save_model
from torch import nn

from recascade.errors import ConfigurationError, TrainingError, did_you_mean
from recascade.files import write_atomically
from recascade.training.strategies import gathered_weights


class Selection(L.Callback):
    """Keeps the weights of the best validation (greatest value of the monitored metric) and stops when none gets
    better.

    Args:
        monitor: name of the logged metric.
        patience: validations without improvement before stopping; 0 never stops.
        path: the safetensors file.
    """

    def __init__(self, monitor: str, patience: int, path: Path) -> None:
        self.monitor = monitor
        self.patience = patience
        self.path = path
        self.best_value: float | None = None
        self.best_epoch = 0
        self.waited = 0

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self.waited

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that had already stopped early stays stopped."""
        trainer.should_stop = trainer.should_stop or self.exhausted

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare with the best so far.

        Raises:
            ConfigurationError: the module logs no metric of that name.
            TrainingError: its value is not a number.
        """
        if self.monitor not in trainer.callback_metrics:
            hint = did_you_mean(self.monitor, trainer.callback_metrics)
            raise ConfigurationError(f"trainer.monitor is {self.monitor!r}, which validation does not measure.{hint}")
        value = float(trainer.callback_metrics[self.monitor])
        if math.isnan(value):
            raise TrainingError(
                f"The validation metric {self.monitor} is not a number after epoch {trainer.current_epoch + 1}: no "
                "validation user has a target. Check the split, or set trainer.validate_every=0."
            )
        for logger in trainer.loggers:
            logger.log_metrics({self.monitor: value, "epoch": trainer.current_epoch}, trainer.global_step)
        if self.best_value is None or value > self.best_value:
            self.best_value, self.best_epoch, self.waited = value, trainer.current_epoch + 1, 0
            self.keep(trainer, pl_module)
        else:
            self.waited += 1
            trainer.should_stop = trainer.should_stop or self.exhausted

    def keep(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the model's present weights; every process must take part."""
        model = trained_model(pl_module)
        gathered = gathered_weights(model)
        if trainer.is_global_zero:
            with write_atomically(self.path) as temporary:
                if gathered is None:
                    save_model(model, str(temporary))
                else:
                    save_file(gathered, str(temporary))
        # No process may look for the file before it is there.
        trainer.strategy.barrier()

    def restore(self, pl_module: L.LightningModule) -> None:
        """Put the kept weights into the model."""
        load_model(trained_model(pl_module), str(self.path), device=str(pl_module.device))

    def state_dict(self) -> dict[str, Any]:
        """The best so far; its weights are in the file."""
        return {"best_value": self.best_value, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict["best_epoch"]
        self.waited = state_dict["waited"]


def trained_model(pl_module: L.LightningModule) -> nn.Module:
    """The part of a LightningModule that is served: its attribute ``model``."""
    model = pl_module.model
    if not isinstance(model, nn.Module):
        raise TrainingError(f"{type(pl_module).__name__}.model must be the torch module to train.")
    return model
