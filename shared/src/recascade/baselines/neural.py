"""Fit functions of the neural next-item models: build the model, train it, serve the best weights."""

from __future__ import annotations

from typing import cast

import torch

from recascade.baselines import config
from recascade.contracts.method import FIT_FILE, Experiment
from recascade.data.next_item import NextItemData, Windows, training_counts
from recascade.files import write_json
from recascade.models.next_item import InnerProductRetriever, NextItemModel
from recascade.models.sasrec import SASRec
from recascade.training.config import LossConfig
from recascade.training.fit import fit
from recascade.training.next_item import NextItemModule


def fit_sasrec(experiment: Experiment) -> InnerProductRetriever:
    """Train SASRec."""
    settings: config.SASRecConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = SASRec(
        len(experiment.data.items),
        dimension=settings.dimension,
        blocks=settings.blocks,
        heads=settings.heads,
        max_length=settings.max_length,
        dropout=settings.dropout,
    )
    return _train(model, settings.loss, settings.windows, experiment)


def _train(model: torch.nn.Module, loss: LossConfig, windows: str, experiment: Experiment) -> InnerProductRetriever:
    next_item_model = cast(NextItemModel, model)
    popularity = torch.from_numpy(training_counts(experiment.data))
    module = NextItemModule(model, experiment.data, loss, experiment.trainer, exclude_seen=experiment.exclude_seen)
    batches = NextItemData(
        experiment.data,
        experiment.trainer,
        max_length=next_item_model.max_length,
        windows=cast(Windows, windows),
        seed=experiment.seed,
    )
    result = fit(module, batches, experiment.trainer, experiment.directory, experiment.seed)
    facts = {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "targets_per_second": result.targets_per_second,
        "fit_seconds": result.seconds,
        "fit_cpu_seconds": result.cpu_seconds,
    }
    write_json(experiment.directory / FIT_FILE, facts)
    return InnerProductRetriever(next_item_model, popularity)
