"""``recascade serve cascade OUT``: all stages behind one endpoint."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recascade.cascade.catalogue import Catalogue
from recascade.cascade.config import Member
from recascade.cascade.histories import Histories
from recascade.cascade.live_stages import LiveStages
from recascade.cascade.open_cascade import OpenedCascade, open_cascade
from recascade.cascade.pipeline import Pipeline
from recascade.cascade.serve_config import ServeConfig
from recascade.cascade.service import CascadeService
from recascade.errors import DataError
from recascade.evaluation.requests import requests
from recascade.models.popularity import Popularity
from recascade.serving.http import application
from recascade.serving.metrics import Metrics
from recascade.serving.one_thread import compute_on_one_thread
from recascade.settings import compose_sections

if TYPE_CHECKING:
    from starlette.applications import Starlette

_WARMING_REQUESTS = 20


def serve(directory: Path, options: Mapping[str, Any]) -> Starlette:
    """The application of a trained cascade.

    Args:
        directory: of ``recascade cascade train``, or of one run of ``recascade run cascade``.
        options: dotted keys, as ``{"serve.ranker_deadline": 50}``; see ``ServeConfig``.

    Raises:
        DataError: the folder holds no trained cascade.
        ConfigurationError: an unknown option, or a value that cannot work.
    """
    config: ServeConfig = compose_sections({"serve": ServeConfig}, options)["serve"]
    compute_on_one_thread()
    opened = open_cascade(directory)
    if config.exclude_seen is None:
        config.exclude_seen = opened.config.evaluation.exclude_seen
    metrics = Metrics()
    data = opened.data
    rankable = None if data.rankable is None else torch.from_numpy(data.rankable)
    pipeline = Pipeline(Popularity.fit(data), len(data.items), config, rankable)
    service = service_of(opened, pipeline, config, metrics)
    # The collector would walk through all identifiers again and again, at some request's expense.
    gc.collect()
    gc.freeze()
    page = (files("recascade.cascade") / "page.html").read_text(encoding="utf-8")
    return application(
        service.routes(), metrics, health=service.health, threads=config.threads, close=service.close, page=page
    )


def service_of(opened: OpenedCascade, pipeline: Pipeline, config: ServeConfig, metrics: Metrics) -> CascadeService:
    """The service of an opened cascade."""

    budget = config.ranker_deadline / 1000

    def load(folder: str) -> LiveStages:
        other = open_cascade(Path(folder).expanduser())
        if other.data.manifest.fingerprint != opened.data.manifest.fingerprint:
            raise DataError(f"The cascade in {folder} was trained on other data; its items are numbered otherwise.")
        return stages_of(other, budget)

    histories = Histories(opened.data, most_events=config.most_events, most_users=config.most_users)
    catalogue = Catalogue(opened.data, opened.split)
    return CascadeService(stages_of(opened, budget), pipeline, catalogue, histories, load, metrics)


def stages_of(opened: OpenedCascade, budget: float) -> LiveStages:
    """The stages of an opened cascade, at work and warm; ``budget`` is the seconds that the ranker may take.

    What a stage makes at its first request (vectors of all items, buffers) would cost somebody a deadline.
    """
    rows = np.arange(min(_WARMING_REQUESTS, len(opened.data.test)))
    for row in rows:
        context = requests(opened.data.events, opened.data.test, rows[row : row + 1])
        opened.fitted.cascade.retrieve(context, opened.config.evaluation.length)
    members: Sequence[Member] = opened.config.model.members
    return LiveStages.of(opened.fitted, members, len(opened.data.items), budget)
