"""What every fit function does when its training is over: say what it cost, and move the model to where it serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from recascade.contracts.method import FIT_FILE
from recascade.files import write_json
from recascade.training.config import TrainerConfig
from recascade.training.fit import FitResult

Module = TypeVar("Module", bound=nn.Module)


def write_facts(directory: Path, model: nn.Module, results: Sequence[FitResult], **more: Any) -> None:
    """Leave the facts of a training in the run directory, in the file ``FIT_FILE``.

    Args:
        directory: of the run.
        model: whose parameters are counted.
        results: of all stages, whose costs are added up; epochs are those of the first. None were trained here: 0.
        more: further facts, or other values for these.
    """
    seconds = sum(result.seconds for result in results)
    facts = {
        "epochs": results[0].epochs if results else 0,
        "best_epoch": results[0].best_epoch if results else 0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "targets_per_second": sum(result.targets for result in results) / seconds if seconds else 0.0,
        "fit_seconds": seconds,
        "fit_cpu_seconds": sum(result.cpu_seconds for result in results),
    }
    write_json(directory / FIT_FILE, facts | more)


def on_accelerator(module: Module, trainer: TrainerConfig) -> Module:
    """The module where it serves fastest: training leaves it on the CPU."""
    if torch.cuda.is_available() and trainer.accelerator in ("auto", "gpu", "cuda"):
        module.to("cuda")
    return module
