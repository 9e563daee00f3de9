"""How to train: the fields every trained method shares. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainerConfig:
    """Settings of ``fit``; overridden on the command line as ``trainer.max_epochs=5``.

    Attributes:
        max_epochs: passes over the training sequences at most.
        max_steps: optimiser steps at most; -1 for no limit.
        learning_rate: peak step size of Adam.
        weight_decay: decoupled (AdamW) decay per step; 0 gives plain Adam.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        gradient_clip: largest global gradient norm; 0 switches clipping off.
        batch_sequences: most sequences in a batch.
        batch_tokens: most events in a batch; 0 for no budget beside ``batch_sequences``.
        bucket: sort sequences of similar length together within windows of this many batches; 1 keeps a random order.
        precision: Lightning's name, ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        compile: run the model through ``torch.compile``.
        monitor: validation metric that chooses the weights and stops early, as ``ndcg@10``.
        patience: validations without improvement before stopping; 0 never stops early.
        validate_every: epochs between validations; 0 validates only after the last epoch.
        validation_users: validate on at most this many users (seeded sample); 0 for all.
        checkpoint_minutes: a resumable checkpoint is written at least this often, and at each epoch's end.
        accelerator: Lightning's name: ``auto``, ``cpu``, ``gpu``.
        devices: how many of them.
        workers: loader processes; 0 loads in the training process.
        progress: draw a progress bar.
    """

    max_epochs: int = 50
    max_steps: int = -1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 0
    gradient_clip: float = 0.0
    batch_sequences: int = 128
    batch_tokens: int = 0
    bucket: int = 16
    precision: str = "32-true"
    compile: bool = False
    monitor: str = "ndcg@10"
    patience: int = 5
    validate_every: int = 1
    validation_users: int = 0
    checkpoint_minutes: float = 10.0
    accelerator: str = "auto"
    devices: int = 1
    workers: int = 0
    progress: bool = True
