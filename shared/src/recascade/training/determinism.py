"""Randomness of a training step as a pure function of (seed, step, rank)."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import numpy as np
import torch


class SeededSteps(L.Callback):
    """Seeds torch's generators before every step, so that dropout and negatives do not depend on what was drawn before.

    A checkpoint then needs no generator states, and an interrupted run repeats exactly the steps it lost.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for the step about to be made."""
        torch.manual_seed(step_seed(self.seed, trainer.global_step, trainer.global_rank))


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """A well-mixed 63-bit seed: neighbouring steps and seeds have nothing in common."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))
