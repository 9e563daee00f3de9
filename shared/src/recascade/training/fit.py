"""One ``fit`` for every trained method: Lightning with exact resume, safe checkpoints and little else in the way."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as L
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.profilers import Profiler

from recascade.errors import TrainingError
from recascade.training.agreement import Agreement
from recascade.training.checkpoints import Interrupted, ResumePoint, SafeCheckpointIO
from recascade.training.config import TrainerConfig
from recascade.training.curves import CurvesLogger
from recascade.training.determinism import SeededSteps
from recascade.training.failures import explain_lost_process, explain_out_of_memory
from recascade.training.meter import Meter
from recascade.training.processes import Place, place_for
from recascade.training.progress import ProgressBar
from recascade.training.selection import Selection
from recascade.training.strategies import StrategyName, strategy_of
from recascade.training.transfer import TransferAhead

CHECKPOINT = Path("checkpoints/last.ckpt")
WEIGHTS = Path("weights.safetensors")
CURVES = Path("curves.csv")


@dataclass(frozen=True)
class FitResult:
    """What a fit reached and cost; the counts of an interrupted and resumed fit are those of all its parts.

    Attributes:
        best_epoch: epochs trained when the kept weights were taken.
        best_value: the monitored metric then; None if there was no validation.
        epochs: epochs begun.
        steps: optimiser steps.
        tokens: events that went through the model.
        targets: predictions that were trained on.
        seconds: wall time, validation included.
        cpu_seconds: CPU time likewise, of the first process where several train together.
        targets_per_second: targets / seconds.
    """

    best_epoch: int
    best_value: float | None
    epochs: int
    steps: int
    tokens: int
    targets: int
    seconds: float
    cpu_seconds: float
    targets_per_second: float


def fit(
    module: L.LightningModule,
    data_module: L.LightningDataModule,
    trainer: TrainerConfig,
    directory: Path,
    seed: int = 0,
) -> FitResult:
    """Train ``module.model`` and leave the best weights in it.

    Writes into ``directory``: ``weights.safetensors`` (the weights that are kept), ``curves.csv`` (the log),
    ``tensorboard/``, ``checkpoints/last.ckpt``. If that checkpoint exists, training goes on from it and ends with the
    same weights, bit for bit, as if it had not been interrupted (same machine, same number of threads).

    Where several processes train together, each calls this function with the same arguments; they make the steps that
    one process would make. The first one writes; all return the same weights.

    Args:
        module: says what a step minimises, as a mean over the batch's targets; its attribute ``model`` is what is
            trained and served.
        data_module: its training loader yields ``CountedBatch`` and keeps its place (``ResumableLoader``).
        trainer: how to train.
        directory: the run directory.
        seed: of every random choice of the steps.

    Raises:
        TrainingError: the loss is not a number, the checkpoint belongs to another run, the memory does not suffice, or
            processes that train together were given different things.
        ConfigurationError: impossible settings.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    trainer.check()
    place = place_for(trainer)
    meter = Meter(trainer.log_every)
    selection = Selection(trainer.monitor, trainer.patience, directory / WEIGHTS)
    callbacks: list[L.Callback] = [Agreement(trainer, seed), SeededSteps(seed), TransferAhead(), meter, selection]
    if trainer.progress:
        callbacks.append(ProgressBar(meter, selection))
    checkpoint = directory / CHECKPOINT
    callbacks.append(ResumePoint(checkpoint, trainer.checkpoint_minutes, meter))
    with _quiet_lightning(), explain_lost_process(), explain_out_of_memory(trainer):
        lightning = _lightning_trainer(trainer, place, directory, callbacks)
        try:
            lightning.fit(module, datamodule=data_module, ckpt_path=checkpoint if checkpoint.exists() else None)
        except Interrupted as interruption:
            if interruption.number == signal.SIGTERM:
                raise SystemExit(128 + interruption.number) from interruption
            raise KeyboardInterrupt from interruption
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise TrainingError(
                f"{checkpoint} belongs to a model of another shape. Continue with the same model settings, or start "
                "again in another directory."
            ) from error
        except SystemExit as error:
            # Lightning turns a Ctrl-C that nobody else handles into an exit.
            raise KeyboardInterrupt from error
        if selection.best_value is None:
            selection.best_epoch = lightning.current_epoch
            selection.keep(lightning, module)
    selection.restore(module)
    return FitResult(
        best_epoch=selection.best_epoch,
        best_value=selection.best_value,
        epochs=lightning.current_epoch,
        steps=lightning.global_step,
        tokens=meter.total["events"],
        targets=meter.total["targets"],
        seconds=meter.seconds,
        cpu_seconds=meter.cpu_seconds,
        targets_per_second=meter.total["targets"] / meter.seconds,
    )


def _lightning_trainer(trainer: TrainerConfig, place: Place, directory: Path, callbacks: list[L.Callback]) -> L.Trainer:
    loggers: list[Logger] = [CurvesLogger(directory / CURVES)]
    if trainer.tensorboard:
        loggers.append(TensorBoardLogger(directory, name="", version="tensorboard"))
    plugins: list[Any] = [SafeCheckpointIO()]
    if place.processes > 1:
        plugins.append(TorchElasticEnvironment())
    return L.Trainer(
        strategy=strategy_of(cast(StrategyName, trainer.strategy), place.processes),
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=place.processes // place.local_processes,
        precision=trainer.precision,  # type: ignore[arg-type]
        max_epochs=trainer.max_epochs,
        max_steps=trainer.max_steps,
        gradient_clip_val=trainer.gradient_clip or None,
        check_val_every_n_epoch=trainer.validate_every or trainer.max_epochs,
        log_every_n_steps=trainer.log_every,
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins,
        profiler=_NoProfiler(),
        default_root_dir=directory,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # By ``ResumePoint``: where there is a ``Checkpoint``, Lightning adds none of its own.
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _NoProfiler(Profiler):
    """Lightning times some forty parts of each step; its own silent profiler costs more than entering nothing."""

    _NOTHING: AbstractContextManager[Any] = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._NOTHING

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def summary(self) -> str:
        """Nothing."""
        return ""


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's remarks on hardware, loaders and summaries; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
