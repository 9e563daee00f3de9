"""Before the first step: do all processes have the same data, model and settings?"""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from hashlib import blake2b
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from recascade import __version__
from recascade.data.loader import ResumableLoader
from recascade.training.config import TrainerConfig
from recascade.training.processes import require_agreement
from recascade.training.retrieval_module import RetrievalModule

_SAMPLE = 64
"""Training sequences that are compared event by event; of all others the lengths are compared."""


class Agreement(L.Callback):
    """Compares what the processes of a fit were given, before the model is shared out among them.

    Args:
        trainer: the settings.
        seed: of the run.
    """

    def __init__(self, trainer: TrainerConfig, seed: int) -> None:
        self.trainer = trainer
        self.seed = seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compare.

        Raises:
            TrainingError: a process differs.
        """
        if trainer.world_size == 1:
            return
        data_module: Any = trainer.datamodule  # type: ignore[attr-defined]
        shapes = [(name, tuple(value.shape), value.dtype) for name, value in pl_module.named_parameters()]
        facts = {f"trainer.{name}": value for name, value in asdict(self.trainer).items()}
        facts |= {
            "the seed": self.seed,
            "the version of recascade": __version__,
            "the version of torch": torch.__version__,
            "the model": (repr(pl_module), shapes),
            "the training data": _data_digest(data_module.train_dataloader()),
        }
        if isinstance(pl_module, RetrievalModule):
            data = pl_module.data
            facts |= {"the split": data.manifest.fingerprint}
            facts |= {f"the {names.kind} names": names.digest() for names in (data.items, data.users)}
        require_agreement(facts, trainer.strategy.root_device)


def _data_digest(loader: ResumableLoader[Any]) -> str:
    digest = blake2b(np.ascontiguousarray(loader.lengths).tobytes())
    sample = np.unique(np.linspace(0, len(loader.lengths) - 1, _SAMPLE).astype(np.int64))
    _add(digest, loader.assemble(sample))
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(value.numpy().tobytes())
    elif is_dataclass(value):
        for field in fields(value):
            _add(digest, getattr(value, field.name))
