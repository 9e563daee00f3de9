"""Randomness of a training step as a pure function of (seed, step, rank)."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch

_MASK = (1 << 64) - 1


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
        seed_generators(step_seed(self.seed, trainer.global_step, trainer.global_rank), pl_module.device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of ``device``.

    ``torch.manual_seed`` looks after every kind of accelerator, present or not, which costs as much as a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """A well-mixed 63-bit seed: neighbouring seeds, steps and ranks have nothing in common."""
    mixed = 0
    for part in (seed, step, rank):
        mixed = _splitmix(mixed ^ part)
    return mixed >> 1


def _splitmix(value: int) -> int:
    """One output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
