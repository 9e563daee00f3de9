"""A fit small enough for tests, and, run as a script, fits that are killed.

``python small_fit.py DIRECTORY`` starts one fit per entry of ``KILLED`` in a process of its own; each process sends
itself SIGKILL in the middle of its work, at the given optimiser step or in the validation after it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import EventSequences
from recascade.data.next_item import NextItemBatch, NextItemData
from recascade.data.split_config import SplitConfig
from recascade.data.split_manifest import SplitManifest
from recascade.data.vocabulary import Vocabulary
from recascade.training.config import LossConfig, TrainerConfig
from recascade.training.fit import FitResult, fit
from recascade.training.next_item import NextItemModule

ITEMS = 20
# 60 users in batches of 8: 8 steps per epoch. Name → (step, phase, minutes between checkpoints).
KILLED = {
    "checkpoint-each-step": (13, "training", 0.0),
    "steps-lost": (13, "training", 10.0),
    "in-validation": (16, "validation", 0.0),
    "first-epoch": (5, "training", 0.0),
    "last-step-of-epoch": (15, "training", 0.0),
}


class TinyModel(nn.Module):
    """The event before and a running mean of all events, with dropout so that randomness matters."""

    def __init__(self, items: int = ITEMS, dimension: int = 8) -> None:
        super().__init__()
        self.max_length = 10
        self.embedding = nn.Parameter(torch.randn(items, dimension) * 0.3)
        self.project = nn.Linear(dimension, dimension)
        self.dropout = nn.Dropout(0.3)

    def states(self, context: Context) -> Tensor:
        return self.project(self.dropout(self.embedding[context.items]))

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        return self.embedding if items is None else self.embedding[items]


def small_split(users: int = 60, seed: int = 0, items: int = ITEMS) -> EncodedSplit:
    """Walks on a ring of items; the last event of each user is the test, the one before the validation target."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, 14, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    steps = random.integers(1, 3, lengths.sum())
    walks = (np.cumsum(steps) % items).astype(np.int32)
    events = EventSequences(
        offsets=offsets,
        items=walks,
        timestamps=np.arange(len(walks)) * 60,
        groups=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
    )
    everyone, ends = np.arange(users), offsets[1:] - 1

    def held_out(targets: Any) -> HeldOut:
        return HeldOut(everyone, targets, np.arange(users + 1), walks[targets], targets * 60)

    vocabularies = (
        Vocabulary([f"{kind}{n}" for n in range(count)], kind=kind)
        for kind, count in (("item", items), ("user", users))
    )
    manifest = SplitManifest("by-hand", "0", True, "", SplitConfig(), {}, {}, 0.0, "0" * 16)
    return EncodedSplit(manifest, *vocabularies, events, ends - 1, held_out(ends - 1), held_out(ends))


class KillingModule(NextItemModule):
    """Sends SIGKILL to its own process at a given place."""

    step, phase = -1, ""

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        if self.phase == "training" and self.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)

    def validation_step(self, rows: Tensor, batch_idx: int) -> None:
        if self.phase == "validation" and self.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        super().validation_step(rows, batch_idx)


def run_fit(
    directory: Path,
    *,
    loss: LossConfig | None = None,
    module_class: type[NextItemModule] = NextItemModule,
    prepare: Any = None,
    model: nn.Module | None = None,
    seed: int = 3,
    split: EncodedSplit | None = None,
    **trainer: Any,
) -> tuple[FitResult, NextItemModule]:
    """Train the tiny model, or another one; ``prepare`` may change the module before."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"max_epochs": 3, "batch_sequences": 8, "log_every": 1, "learning_rate": 0.02}
    settings |= {"progress": False, "tensorboard": False, "accelerator": "cpu", "bucket": 2, "warmup_steps": 5}
    config = TrainerConfig(**(settings | trainer))
    split = split or small_split()
    loss = loss or LossConfig(name="sampled_softmax", negatives=5, popularity_exponent=0.5)
    module = module_class(model or TinyModel(), split, loss, config)
    if prepare is not None:
        prepare(module)
    result = fit(module, NextItemData(split, config, max_length=10, seed=seed), config, directory, seed)
    return result, module


def main(directory: Path) -> None:
    for name, (step, phase, minutes) in KILLED.items():
        process = os.fork()
        if process == 0:

            def arm(module: NextItemModule, step: int = step, phase: str = phase) -> None:
                module.step, module.phase = step, phase

            run_fit(directory / name, module_class=KillingModule, prepare=arm, checkpoint_minutes=minutes)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        print(name, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
