"""Adam with linear warm-up, as every trained method uses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from recascade.training.config import TrainerConfig


def adam(parameters: Iterable[nn.Parameter], trainer: TrainerConfig) -> dict[str, Any]:
    """What ``LightningModule.configure_optimizers`` returns: Adam, or AdamW where ``weight_decay`` is above 0.

    The fused implementation updates all parameters in one call. With ``16-mixed`` it would hide the unscaled gradients
    that clipping needs, so clipping switches it off there.
    """
    fused = trainer.precision != "16-mixed" or trainer.gradient_clip == 0
    kind = torch.optim.AdamW if trainer.weight_decay else torch.optim.Adam
    optimizer = kind(
        parameters,
        lr=trainer.learning_rate,
        betas=(0.9, trainer.adam_beta2),
        weight_decay=trainer.weight_decay,
        fused=fused,
    )
    configuration: dict[str, Any] = {"optimizer": optimizer}
    if trainer.warmup_steps:
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / trainer.warmup_steps))
        configuration["lr_scheduler"] = {"scheduler": warmup, "interval": "step"}
    return configuration
