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


@contextmanager
def explain_failures(trainer: TrainerConfig) -> Iterator[None]:
    """Turn a lack of memory, or another process's end, into a ``TrainingError``."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingError(_out_of_memory(trainer, error)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise TrainingError(_out_of_memory(trainer, error)) from error
        if _LOST_PEER.search(str(error)):
            raise TrainingError(
                "Another process of this training does not answer any more; its log says why. The same command goes on "
                "from the last checkpoint."
            ) from error
        raise


def _out_of_memory(trainer: TrainerConfig, error: BaseException) -> str:
    where = "The GPU" if isinstance(error, torch.OutOfMemoryError) else "The machine"
    budget = f"trainer.batch_tokens (now {trainer.batch_tokens}) or " if trainer.batch_tokens else ""
    wished = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    return (
        f"{where} has too little memory for a training step{f' (it asked for {wished[1]} more)' if wished else ''}. Lower "
        f"{budget}trainer.batch_sequences (now {trainer.batch_sequences}), set trainer.precision=bf16-mixed, or lower "
        "model.dimension or model.max_length; if other programs took the memory, the same command goes on from the last "
        "checkpoint."
    )
