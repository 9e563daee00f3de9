"""What can end a fit from outside of it, as sentences that say how to go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recascade.errors import TrainingError
from recascade.training.config import TrainerConfig

_LOST_PEER = re.compile(
    r"connection (closed|reset) by peer|connection refused|broken pipe|timed out waiting|socket timeout|nccl", re.I
)

_CPU_OUT_OF_MEMORY = "can't allocate memory"


class LostProcessError(TrainingError):
    """A process that trains or evaluates with others has lost one of them; which of them is to blame, it cannot say."""


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turn an exchange that another process has not answered into a ``LostProcessError``."""
    try:
        yield
    except RuntimeError as error:
        if not _LOST_PEER.search(str(error)):
            raise
        raise LostProcessError(
            "Another process of this run does not answer any more; its log says why. The same command goes on from the "
            "last checkpoint."
        ) from error


@contextmanager
def explain_out_of_memory(trainer: TrainerConfig) -> Iterator[None]:
    """Turn a lack of memory into a ``TrainingError`` that names the settings to lower."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingError(_out_of_memory(trainer, error)) from error
    except RuntimeError as error:
        if _CPU_OUT_OF_MEMORY not in str(error):
            raise
        raise TrainingError(_out_of_memory(trainer, error)) from error


def _out_of_memory(trainer: TrainerConfig, error: BaseException) -> str:
    where = "The GPU" if isinstance(error, torch.OutOfMemoryError) else "The machine"
    budget = f"trainer.batch_tokens (now {trainer.batch_tokens}) or " if trainer.batch_tokens else ""
    wished = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    return (
        f"{where} has too little memory for a training step{f' (it asked for {wished[1]} more)' if wished else ''}. "
        f"Lower {budget}trainer.batch_sequences (now {trainer.batch_sequences}), set trainer.precision=bf16-mixed, or "
        "lower model.dimension or model.max_length; if other programs took the memory, the same command goes on from "
        "the last checkpoint."
    )
