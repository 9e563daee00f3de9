"""Fits in two processes, for ``test_several_processes.py``, which runs this script with a directory.

Each scenario is a folder; ``problems.json`` holds what each process raised. This process itself only forks: a process
that has computed gradients must not.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from small_fit import TinyModel, run_fit, small_split
from together import together
from torch import Tensor, nn

from recascade.contracts.context import Context
from recascade.data.next_item import NextItemBatch
from recascade.data.vocabulary import Vocabulary
from recascade.models.gru4rec import GRU4Rec
from recascade.models.hstu import HSTU
from recascade.models.sasrec import SASRec
from recascade.training.config import LossConfig
from recascade.training.next_item import NextItemModule

# An odd number, which two processes cannot share evenly.
ITEMS = 21
# Only what does not depend on the number of processes: no dropout, no drawn negatives.
EXACT: dict[str, Any] = {"loss": LossConfig(), "max_epochs": 1, "gradient_clip": 0.5}


class WithEmptyTable(SASRec):
    """Has a table without rows, as models of data without features do."""

    def __init__(self, items: int, **sizes: Any) -> None:
        super().__init__(items, **sizes)
        self.features = nn.Parameter(torch.empty(0, 8))

    def states(self, context: Context) -> Tensor:
        return super().states(context) + self.features.sum()


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dimension": 8, "blocks": 2, "heads": 2, "max_length": 10, "dropout": 0.0}
    if name == "recurrent":
        return GRU4Rec(ITEMS, dimension=8, hidden=8, layers=1, max_length=10, dropout=0.0)
    return WithEmptyTable(ITEMS, **sizes) if name == "sasrec" else HSTU(ITEMS, **sizes)


class Disturbed(NextItemModule):
    """Does something to its own process at an optimiser step."""

    disturbance, step, rank = "", -1, 1

    def training_step(self, batch: NextItemBatch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.global_step != self.step or self.global_rank != self.rank:
            return loss
        if self.disturbance == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.disturbance == "interrupt":
            os.kill(os.getpid(), signal.SIGTERM)
            return loss
        if self.disturbance == "out-of-memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return loss * math.nan


def fit_exactly(rank: int, directory: Path, name: str, **trainer: Any) -> None:
    """A fit whose result is written by each process, as it holds it."""
    _, module = run_fit(directory, model=model(name), split=small_split(items=ITEMS), **(EXACT | trainer))
    save_file(dict(module.model.state_dict()), directory / f"process-{rank}.safetensors")


def fit_disturbed(rank: int, directory: Path, disturbance: str, step: int) -> None:
    def arm(module: Any) -> None:
        module.disturbance, module.step = disturbance, step

    run_fit(directory, module_class=Disturbed, prepare=arm, max_epochs=2, checkpoint_minutes=0.0, devices=2)


def fit_differently(rank: int, directory: Path, what: str) -> None:
    """Process 1 is given something else than process 0."""
    options: dict[str, Any] = {"devices": 2}
    own = small_split()
    if rank == 1:
        options |= {
            "settings": {"learning_rate": 0.5},
            "seed": {"seed": 4},
            "model": {"model": TinyModel(dimension=9)},
            "data": {"split": small_split(seed=1)},
            "split": {"split": replace(own, manifest=replace(own.manifest, fingerprint="1" * 16))},
            "names": {"split": replace(own, items=Vocabulary(own.items.ids.reverse(), kind="item"))},
        }[what]
    run_fit(directory, **options)


def exact_with(rank: int, directory: Path, name: str, trainer: dict[str, Any]) -> None:
    fit_exactly(rank, directory, name, **trainer)


def main(directory: Path) -> None:
    problems: dict[str, list[str]] = {}

    def run(name: str, function: Any, *arguments: Any, processes: int = 2) -> None:
        problems[name] = together(function, directory / name, *arguments, processes=processes)

    for name in ("sasrec", "hstu"):
        run(f"{name}-alone", exact_with, name, {}, processes=1)
    for name, strategy in (("sasrec", "ddp"), ("sasrec", "fsdp"), ("hstu", "ddp")):
        run(f"{name}-{strategy}", exact_with, name, {"devices": 2, "strategy": strategy})
    # What two processes have begun, one ends, and the other way round.
    for begun, ended in (("sharded", "alone"), ("alone", "sharded")):
        place = f"{begun}-{ended}"
        for part, steps in ((begun, 5), (ended, -1)):
            alone = part == "alone"
            settings = {} if alone else {"devices": 2, "strategy": "fsdp"}
            run(place, exact_with, "sasrec", {**settings, "max_steps": steps}, processes=1 if alone else 2)
    run("recurrent", exact_with, "recurrent", {"devices": 2, "strategy": "fsdp"})
    # Dropout and negatives are drawn here: the same only in the same number of processes.
    run("undisturbed", fit_disturbed, "", -1)
    for disturbance in ("kill", "interrupt"):
        run(disturbance, fit_disturbed, disturbance, 11)
        problems[f"{disturbance} again"] = together(fit_disturbed, directory / disturbance, "", -1)
    run("not-a-number", fit_disturbed, "nan", 2)
    run("out-of-memory", fit_disturbed, "out-of-memory", 2)
    for what in ("settings", "seed", "model", "data", "split", "names"):
        run(f"other-{what}", fit_differently, what)
    (directory / "problems.json").write_text(json.dumps(problems))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
