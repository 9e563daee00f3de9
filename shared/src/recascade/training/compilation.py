"""The switch ``trainer.compile``."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from recascade.training.config import TrainerConfig

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result], trainer: TrainerConfig) -> Callable[Arguments, Result]:
    """The function through ``torch.compile`` where ``trainer.compile`` is set, else itself.

    Lengths change from batch to batch: one graph with symbolic sizes is made, instead of one per shape.
    """
    if not trainer.compile:
        return function
    made: Callable[Arguments, Result] = torch.compile(function, dynamic=True, backend=trainer.compile_backend)
    return made
