"""Fit functions of the neural next-item models: build the model, train it, serve the best weights."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recascade.baselines import config
from recascade.baselines.cross_domain_config import CrossDomainSASRecConfig
from recascade.contracts.method import Experiment
from recascade.data.next_item import NextItemData, Windows
from recascade.models.cl4srec import CL4SRec
from recascade.models.cross_domain_sasrec import CrossDomainSASRec
from recascade.models.dssm import DSSM
from recascade.models.gru4rec import GRU4Rec
from recascade.models.hstu import HSTU, Output
from recascade.models.next_item import InnerProductRetriever, NextItemModel
from recascade.models.sasrec import SASRec
from recascade.models.two_tower import Similarity
from recascade.nn.hstu import Normaliser
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.cl4srec import CL4SRecModule
from recascade.training.config import LossConfig
from recascade.training.domain_next_item import DomainNextItemModule
from recascade.training.fit import fit
from recascade.training.next_item import NextItemModule


def fit_sasrec(experiment: Experiment) -> InnerProductRetriever:
    """Train SASRec."""
    settings: config.SASRecConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = SASRec(len(experiment.data.items), **_sasrec_shape(settings))
    return _train(_next_item(model, settings.loss, experiment), settings.windows, experiment)


def fit_cl4srec(experiment: Experiment) -> InnerProductRetriever:
    """Train CL4SRec."""
    settings: config.CL4SRecConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = CL4SRec(
        len(experiment.data.items),
        crop_share=settings.crop_share,
        mask_share=settings.mask_share,
        reorder_share=settings.reorder_share,
        **_sasrec_shape(settings),
    )
    module = CL4SRecModule(
        model,
        experiment.data,
        settings.loss,
        experiment.trainer,
        contrast=settings.contrast,
        exclude_seen=experiment.exclude_seen,
    )
    return _train(module, settings.windows, experiment)


def fit_cross_domain_sasrec(experiment: Experiment) -> InnerProductRetriever:
    """Train the cross-domain SASRec for the split's target domain; without one all items are one domain."""
    settings: CrossDomainSASRecConfig = experiment.config
    data = experiment.data
    torch.manual_seed(experiment.seed)
    members = torch.arange(len(data.items)) if data.rankable is None else torch.from_numpy(data.rankable)
    model = CrossDomainSASRec(
        len(data.items),
        members,
        settings.rank,
        dimension=settings.dimension,
        blocks=settings.blocks,
        heads=settings.heads,
        max_length=settings.max_length,
        dropout=settings.dropout,
    )
    module = DomainNextItemModule(model, data, members, experiment.trainer, exclude_seen=experiment.exclude_seen)
    return _train(module, settings.windows, experiment)


def fit_hstu(experiment: Experiment) -> InnerProductRetriever:
    """Train HSTU."""
    settings: config.HSTUConfig = experiment.config
    has_times = bool(np.asarray(experiment.data.events.timestamps).any())
    torch.manual_seed(experiment.seed)
    model = HSTU(
        len(experiment.data.items),
        dimension=settings.dimension,
        blocks=settings.blocks,
        heads=settings.heads,
        max_length=settings.max_length,
        dropout=settings.dropout,
        position_bias=settings.position_bias,
        time_buckets=settings.time_buckets if has_times else 0,
        normaliser=cast(Normaliser, settings.normaliser),
        output=cast(Output, settings.output),
    )
    return _train(_next_item(model, settings.loss, experiment), settings.windows, experiment)


def fit_gru4rec(experiment: Experiment) -> InnerProductRetriever:
    """Train GRU4Rec."""
    settings: config.GRU4RecConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = GRU4Rec(
        len(experiment.data.items),
        dimension=settings.dimension,
        hidden=settings.hidden,
        layers=settings.layers,
        max_length=settings.max_length,
        dropout=settings.dropout,
        constrained=settings.constrained,
    )
    return _train(_next_item(model, settings.loss, experiment), settings.windows, experiment)


def fit_dssm(experiment: Experiment) -> InnerProductRetriever:
    """Train the two towers."""
    settings: config.DSSMConfig = experiment.config
    data = experiment.data
    torch.manual_seed(experiment.seed)
    model = DSSM(
        len(data.items),
        dimension=settings.dimension,
        hidden=settings.hidden,
        recent=settings.recent,
        max_length=settings.max_length,
        dropout=settings.dropout,
        embedding_dimension=settings.dimension,
        item_features=data.item_features if settings.item_features else None,
        user_features=data.user_features if settings.user_features else None,
        users=len(data.users) if settings.user_identity else 0,
        similarity=cast(Similarity, settings.similarity),
    )
    return _train(_next_item(model, settings.loss, experiment), settings.windows, experiment)


def _sasrec_shape(settings: config.SASRecConfig) -> dict[str, Any]:
    """What SASRec is built from; CL4SRec trains the same network."""
    return {
        "dimension": settings.dimension,
        "blocks": settings.blocks,
        "heads": settings.heads,
        "max_length": settings.max_length,
        "dropout": settings.dropout,
        "order": settings.order,
        "positions": settings.positions,
        "output_projection": settings.output_projection,
    }


def _next_item(model: nn.Module, loss: LossConfig, experiment: Experiment) -> NextItemModule:
    return NextItemModule(model, experiment.data, loss, experiment.trainer, exclude_seen=experiment.exclude_seen)


def _train(module: NextItemModule, windows: str, experiment: Experiment) -> InnerProductRetriever:
    """Train on the next items, leave the facts of the training in the run directory, and serve the best weights."""
    model = module.model
    next_item_model = cast(NextItemModel, model)
    batches = NextItemData(
        experiment.data,
        experiment.trainer,
        max_length=next_item_model.max_length,
        windows=cast(Windows, windows),
        seed=experiment.seed,
    )
    result = fit(module, batches, experiment.trainer, experiment.directory, experiment.seed)
    write_facts(experiment.directory, model, [result])
    return on_accelerator(module, experiment.trainer).retriever()
