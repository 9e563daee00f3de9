"""Watching over a model that is reinforced: a public recipe lost a fifth of its hit rate without anybody noticing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from safetensors.torch import load_model, save_model
from torch import Tensor

from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import VALIDATION_REQUESTS
from recascade.files import write_atomically
from recascade.models.generative_retriever import GenerativeRetriever
from recascade.training.retrieval_validation import RetrievalValidation
from recascade.training.selection import trained_model
from recascade_recast.guard_config import GuardConfig
from recascade_recast.module import ReCastModule

HEALTHY = "healthy.safetensors"
"""The weights of the last good measurement."""

# Named by the module's figures: key of the figure → (field of the bound, whether the bound is a least value).
_BOUNDS = {
    "valid_rate": ("least_valid", True),
    "entropy": ("least_entropy", True),
    "unique_rate": ("least_unique", True),
    "reference_divergence": ("most_divergence", False),
}


def complaints(figures: Mapping[str, float], hit_rate: float, supervised: float, settings: GuardConfig) -> list[str]:
    """What is wrong, one phrase each; nothing when the model is well.

    Args:
        figures: means since the last measurement: ``valid_rate``, ``entropy``, ``unique_rate``,
            ``reference_divergence``.
        hit_rate: on validation users, now.
        supervised: on the same users, before the first step.
        settings: the bounds.
    """
    found = []
    if hit_rate < settings.least_share * supervised:
        found.append(f"hit rate {hit_rate:.4f} against {supervised:.4f} of the supervised model")
    for name, (bound, least) in _BOUNDS.items():
        value, limit = figures.get(name), getattr(settings, bound)
        if value is not None and (value < limit if least else value > limit):
            found.append(f"{name.replace('_', ' ')} {value:.3f}, {'below' if least else 'above'} {limit:g}")
    return found


class HealthGuard(L.Callback):
    """Measures every few steps, says what it sees, and stops the training where it was asked to.

    Args:
        settings: bounds, and how many batches of prompts lie between measurements.
        passes: optimiser steps per batch of prompts.
        data: whose validation users are measured.
        rows: int64 ``[E]``, which of them.
        retriever: makes what serves the model as it is.
        directory: of this stage, for the last good weights.
        exclude_seen: rank without the items of the user's own history.
    """

    def __init__(
        self,
        settings: GuardConfig,
        passes: int,
        data: EncodedSplit,
        rows: Tensor,
        retriever: Callable[[], GenerativeRetriever],
        directory: Path,
        *,
        exclude_seen: bool = False,
    ) -> None:
        self.settings = settings
        self.passes = passes
        self.rows = rows
        self.retriever = retriever
        self.directory = directory
        self.validation = RetrievalValidation(data, f"hit_rate@{settings.cutoff}", exclude_seen=exclude_seen)
        self.supervised = float("nan")
        self.latest: dict[str, float] = {}
        self.warnings: list[str] = []
        self.stopped_at = 0

    @property
    def report(self) -> dict[str, Any]:
        """What the result of the run says about the model's health."""
        return {
            "metric": f"hit_rate@{self.settings.cutoff}",
            "supervised": self.supervised,
            **self.latest,
            "warnings": self.warnings,
            "stopped_at_step": self.stopped_at,
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the supervised model; a run that was stopped stays stopped."""
        trainer.should_stop = trainer.should_stop or self.stopped_at > 0
        if trainer.global_step == 0:
            self.supervised = self._hit_rate(pl_module)
            self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure when it is time."""
        # Counted by the trainer, which goes on from where an interrupted run was.
        if trainer.global_step % (self.settings.every * self.passes):
            return
        assert isinstance(pl_module, ReCastModule)
        figures = pl_module.take_health()
        hit_rate = self._hit_rate(pl_module)
        self.latest = {"hit_rate": hit_rate, **figures}
        for logger in trainer.loggers:
            line = {f"health/{name}": value for name, value in self.latest.items()}
            logger.log_metrics({**line, "epoch": trainer.current_epoch}, trainer.global_step)
        wrong = complaints(figures, hit_rate, self.supervised, self.settings)
        self._tell(trainer, wrong)
        if not wrong:
            self._keep(pl_module)
        elif self.settings.stop:
            load_model(trained_model(pl_module), self.directory / HEALTHY, device=str(pl_module.device))
            self.stopped_at = trainer.global_step
            trainer.should_stop = True

    def _hit_rate(self, pl_module: L.LightningModule) -> float:
        retriever = self.retriever()
        for start in range(0, len(self.rows), VALIDATION_REQUESTS):
            rows = self.rows[start : start + VALIDATION_REQUESTS]
            self.validation.measure(retriever, rows, pl_module.device)
        return self.validation.take_mean(pl_module)

    def _tell(self, trainer: L.Trainer, wrong: list[str]) -> None:
        """One line per measurement, in the terminal or the run's log."""
        seen = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in self.latest.items())
        trainer.print(f"Step {trainer.global_step}: {seen} (hit rate before: {self.supervised:.3f}).")
        if wrong:
            self.warnings.append(f"step {trainer.global_step}: {'; '.join(wrong)}")
            trainer.print(f"The model is unwell: {'; '.join(wrong)}.")

    def _keep(self, pl_module: L.LightningModule) -> None:
        if self.settings.stop:
            with write_atomically(self.directory / HEALTHY) as temporary:
                save_model(trained_model(pl_module), str(temporary))

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {
            "supervised": self.supervised,
            "latest": self.latest,
            "warnings": self.warnings,
            "stopped_at": self.stopped_at,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self.supervised = state_dict["supervised"]
        self.latest = state_dict["latest"]
        self.warnings = state_dict["warnings"]
        self.stopped_at = state_dict["stopped_at"]
