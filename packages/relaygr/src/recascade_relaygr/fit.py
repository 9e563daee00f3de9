"""Training of RelayGR's ranker."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from recascade.contracts.method import Experiment
from recascade.data.next_item import Windows
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.fit import fit as train
from recascade_relaygr.build import build
from recascade_relaygr.config import RelayGRConfig
from recascade_relaygr.module import RankingModule
from recascade_relaygr.ranker.safety import check_prefix_safety
from recascade_relaygr.ranking_data import RankingData
from recascade_relaygr.run_folder import write_run
from recascade_relaygr.shortlist_retriever import ShortlistRetriever


def fit(experiment: Experiment) -> ShortlistRetriever:
    """Train, check that prefixes of the trained ranker are safe, and leave in the run directory what a service needs.

    Raises:
        PrefixUnsafeError: running a prefix ahead of time changes the scores.
    """
    settings: RelayGRConfig = experiment.config
    data = experiment.data
    torch.manual_seed(experiment.seed)
    model = build(settings, len(data.items), has_times=bool(np.asarray(data.events.timestamps).any()))
    module = RankingModule(model, settings, data, experiment.trainer, exclude_seen=experiment.exclude_seen)
    batches = RankingData(
        data,
        experiment.trainer,
        max_length=settings.max_length,
        windows=cast(Windows, settings.windows),
        seed=experiment.seed,
    )
    result = train(module, batches, experiment.trainer, experiment.directory, experiment.seed)
    error = check_prefix_safety(model.cpu().eval(), len(data.items))
    write_run(experiment.directory, settings, data, model)
    write_facts(experiment.directory, model, [result], prefix_error=error)
    return on_accelerator(module, experiment.trainer).retriever()
