"""The models of one domain that regenerated data is for, as the shared core has them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recascade.contracts.method import Experiment
from recascade.data.encoded import EncodedSplit
from recascade.data.next_item import NextItemData, Windows
from recascade.models.cl4srec import CL4SRec
from recascade.models.gru4rec import GRU4Rec
from recascade.models.hstu import HSTU
from recascade.models.next_item import InnerProductRetriever
from recascade.models.sasrec import SASRec
from recascade.training.after_fit import on_accelerator
from recascade.training.cl4srec import CL4SRecModule
from recascade.training.fit import FitResult, fit
from recascade.training.next_item import NextItemModule
from recascade_taesar.backbone_config import BackboneConfig


def train_backbone(
    experiment: Experiment, data: EncodedSplit, config: BackboneConfig
) -> tuple[InnerProductRetriever, FitResult]:
    """Train a backbone on the next items of ``data``, its best weights chosen by the validation part.

    Args:
        experiment: seed, trainer, directory.
        data: what it learns from and is validated on.
        config: which one, and its shape.
    """
    trainer = experiment.trainer
    torch.manual_seed(experiment.seed)
    model = _build(config, data)
    module = NextItemModule(model, data, config.loss, trainer, exclude_seen=experiment.exclude_seen)
    if isinstance(model, CL4SRec):
        module = CL4SRecModule(
            model, data, config.loss, trainer, contrast=config.contrast, exclude_seen=experiment.exclude_seen
        )
    batches = NextItemData(
        data, trainer, max_length=config.max_length, windows=cast(Windows, config.windows), seed=experiment.seed
    )
    result = fit(module, batches, trainer, experiment.directory, experiment.seed)
    return on_accelerator(module, trainer).retriever(), result


def _build(config: BackboneConfig, data: EncodedSplit) -> nn.Module:
    items = len(data.items)
    if config.name == "gru4rec":
        return GRU4Rec(items, config.dimension, None, config.blocks, config.max_length, config.dropout)
    if config.name == "hstu":
        timed = bool(np.asarray(data.events.timestamps).any())
        return HSTU(
            items,
            config.dimension,
            config.blocks,
            config.heads,
            config.max_length,
            config.dropout,
            time_buckets=128 if timed else 0,
        )
    shape: dict[str, Any] = {
        name: getattr(config, name) for name in ("dimension", "blocks", "heads", "max_length", "dropout")
    }
    return CL4SRec(items, **shape) if config.name == "cl4srec" else SASRec(items, **shape)
