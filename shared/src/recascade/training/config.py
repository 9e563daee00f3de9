"""How to train: the fields every trained method shares. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from recascade.errors import ConfigurationError, did_you_mean

LOSSES = ("full_softmax", "sampled_softmax", "binary_cross_entropy")
SHARING = ("batch", "block", "position")
STRATEGIES = ("auto", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass
class TrainerConfig:
    """Settings of ``fit``; overridden on the command line as ``trainer.max_epochs=5``.

    Attributes:
        max_epochs: passes over the training sequences at most.
        max_steps: optimiser steps at most; -1 for no limit.
        learning_rate: peak step size of Adam.
        adam_beta2: decay of Adam's second moment. 0.98 as in SASRec's release; 0.999 is Adam's own default.
        weight_decay: decoupled (AdamW) decay per step; 0 gives plain Adam.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        gradient_clip: largest global gradient norm; 0 switches clipping off.
        batch_sequences: most sequences in a batch, over all devices together: more devices make the same steps sooner.
        batch_tokens: most events in a batch, likewise; 0 for no budget beside ``batch_sequences``.
        bucket: sort sequences of similar length together within windows of this many batches; 1 keeps pure random
            order.
        precision: Lightning's name, ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        compile: run the model through ``torch.compile``.
        compile_backend: of ``torch.compile``; ``inductor`` is PyTorch's default, and needs a C++ compiler on a CPU.
        monitor: validation metric that chooses the weights and stops early, as ``ndcg@10``.
        patience: validations without improvement before stopping; 0 never stops early.
        validate_every: epochs between validations; 0 validates only after the last epoch.
        refit: when validation has chosen the number of epochs, train a fresh model for that many epochs on the training
            and validation events together, and measure the test part with that one. What one would serve; needs
            about twice the time. Validation figures stay those of the first model.
        validation_users: validate on at most this many users (seeded sample); 0 for all.
        checkpoint_minutes: a resumable checkpoint is written at least this often, and at each epoch's end.
        log_every: steps between lines of the training log.
        tensorboard: also write the log for TensorBoard.
        accelerator: Lightning's name: ``auto``, ``cpu``, ``gpu``.
        devices: how many of them, on each machine; each is used by a process of its own.
        strategy: how processes that train together hold the model: ``ddp`` (each all of it; ``auto`` is the same) or
            ``fsdp`` (each a share of weights, gradients and Adam's moments).
        workers: loader processes; 0 loads in the training process.
        progress: draw a progress bar.
    """

    max_epochs: int = 50
    max_steps: int = -1
    learning_rate: float = 1e-3
    adam_beta2: float = 0.98
    weight_decay: float = 0.0
    warmup_steps: int = 0
    gradient_clip: float = 0.0
    batch_sequences: int = 128
    batch_tokens: int = 0
    bucket: int = 16
    precision: str = "32-true"
    compile: bool = False
    compile_backend: str = "inductor"
    monitor: str = "ndcg@10"
    patience: int = 5
    validate_every: int = 1
    validation_users: int = 0
    refit: bool = False
    checkpoint_minutes: float = 10.0
    log_every: int = 50
    tensorboard: bool = True
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    workers: int = 0
    progress: bool = True

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        if self.precision not in PRECISIONS:
            raise ConfigurationError(
                f"trainer.precision is {self.precision!r}.{did_you_mean(self.precision, PRECISIONS)}"
            )
        if self.strategy not in STRATEGIES:
            raise ConfigurationError(f"trainer.strategy is {self.strategy!r}.{did_you_mean(self.strategy, STRATEGIES)}")
        smallest = {"max_epochs": 1, "batch_sequences": 1, "bucket": 1, "log_every": 1, "devices": 1, "max_steps": -1}
        smallest |= dict.fromkeys(("batch_tokens", "warmup_steps", "patience", "validate_every", "workers"), 0)
        smallest |= dict.fromkeys(("validation_users", "weight_decay", "gradient_clip", "checkpoint_minutes"), 0)
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ConfigurationError(f"trainer.{name} is {getattr(self, name)}; it must be at least {least}.")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"trainer.learning_rate is {self.learning_rate}; it must be above 0.")


@dataclass
class LossConfig:
    """What a next-item model minimises.

    Attributes:
        name: ``full_softmax`` (cross-entropy against the whole catalogue), ``sampled_softmax`` or
            ``binary_cross_entropy``.
        negatives: items drawn to compare with, for the two sampled losses.
        sharing: ``batch`` compares all positions with the same negatives (one matrix product); ``position`` draws for
            each position anew, as the published SASRec does; ``block`` draws anew for every ``block`` neighbouring
            positions: nearly the validation NDCG of ``position`` on Amazon Beauty at a seventh of its CPU time, and
            above ``batch`` (one exploratory run each, 256 negatives).
        block: positions that share their negatives under ``sharing=block``.
        popularity_exponent: negatives are drawn in proportion to (training events)^exponent; 0 draws uniformly.
        log_q: subtract the log probability of being drawn from the scores of sampled softmax, so that it estimates the
            full softmax; without effect on uniform draws.
        temperature: divides the scores.
    """

    name: str = "full_softmax"
    negatives: int = 256
    sharing: str = "batch"
    block: int = 32
    popularity_exponent: float = 0.0
    log_q: bool = True
    temperature: float = 1.0

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the field, its value and what it may be.
        """
        if self.name not in LOSSES:
            raise ConfigurationError(f"loss.name is {self.name!r}.{did_you_mean(self.name, LOSSES)}")
        if self.sharing not in SHARING:
            raise ConfigurationError(f"loss.sharing is {self.sharing!r}.{did_you_mean(self.sharing, SHARING)}")
        for field in ("negatives", "block"):
            if getattr(self, field) < 1:
                raise ConfigurationError(f"loss.{field} is {getattr(self, field)}; it must be at least 1.")
        if not self.temperature > 0:
            raise ConfigurationError(f"loss.temperature is {self.temperature}; it must be above 0.")
