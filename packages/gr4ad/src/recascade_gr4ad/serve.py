"""``recascade serve gr4ad RUN``: the service of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recascade.errors import ConfigurationError
from recascade.models.beam_widths import beam_widths
from recascade.models.generative_retriever import GenerativeRetriever, Sharing
from recascade.serving.http import application
from recascade.serving.metrics import Metrics
from recascade.settings import compose_sections
from recascade.tokenizers.content import completed
from recascade.tokenizers.text_encoder import TextEncoder
from recascade_gr4ad.beam_serving import BeamController
from recascade_gr4ad.live_index import LiveIndex
from recascade_gr4ad.result_cache import ResultCache
from recascade_gr4ad.routes import ContentEncoder, Routes
from recascade_gr4ad.run_folder import TEXT_ENCODER, ServedRun, read_run
from recascade_gr4ad.serve_config import ServeConfig
from recascade_gr4ad.service import GR4ADService
from recascade_gr4ad.value_reranker import ValueReranker

if TYPE_CHECKING:
    from starlette.applications import Starlette


def serve(directory: Path, options: Mapping[str, Any]) -> Starlette:
    """The application of a run.

    Args:
        directory: of one run of ``recascade run gr4ad``.
        options: dotted keys, as ``{"serve.beams": [128, 256, 512]}``; see ``ServeConfig``.

    Raises:
        DataError: the folder holds no finished run.
        ConfigurationError: an unknown option, or a value that cannot work.
    """
    config: ServeConfig = compose_sections({"serve": ServeConfig}, options)["serve"]
    # Answers share the cores; more threads in each would only wait for each other.
    torch.set_num_threads(1)
    run = read_run(directory)
    service = service_of(run, config)
    metrics = Metrics()
    service.follow(metrics)
    routes = Routes(service, _content_encoder(directory, run)).routes()
    return application(routes, metrics, health=service.health, threads=config.threads)


def service_of(run: ServedRun, config: ServeConfig) -> GR4ADService:
    """The service of a run that was read.

    Raises:
        ConfigurationError: γ needs an eCPM step that the run has not, or the beams do not fit the ids.
    """
    gamma = run.settings.values.gamma if config.gamma is None else config.gamma
    if gamma and run.buckets is None:
        raise ConfigurationError("serve.gamma orders by the eCPM step, which this run has not; leave serve.gamma at 0.")
    settings = replace(run.settings, beams=config.beams or run.settings.beams)
    retriever = GenerativeRetriever(
        run.model,
        run.model.history.item_codes,
        torch.from_numpy(run.popularity.copy()),
        beam_widths(settings.beams, len(run.ids.sizes), "serve.beams" if config.beams else "model.beams"),
        sharing=cast(Sharing, run.settings.sharing),
        rescore=ValueReranker(run.model, run.buckets, gamma) if gamma and run.buckets is not None else None,
    )
    controller = BeamController(
        retriever.widths,
        busy_rate=config.busy_rate,
        idle_rate=config.idle_rate,
        widest=config.widest,
        hysteresis=config.hysteresis,
        seconds=config.rate_seconds,
    )
    cache = ResultCache(config.cache_seconds, config.cache_entries)
    return GR4ADService(run, LiveIndex(retriever, run.ids, run.items.ids.to_list()), controller, cache, config)


def _content_encoder(directory: Path, run: ServedRun) -> ContentEncoder | None:
    path = directory / TEXT_ENCODER
    if not path.is_file():
        return None
    encoder = TextEncoder.load(path)
    content = replace(run.settings.tokenizer.content, missing="error")

    columns = encoder.terms["column"].unique()

    def encode(fields: pl.DataFrame) -> NDArray[np.float32]:
        absent = [pl.lit(None, dtype=pl.String).alias(name) for name in columns if name not in fields.columns]
        vectors = encoder.encode(fields.with_columns(absent))
        return completed(vectors, np.logical_not(vectors.any(axis=1)), fields["item_id"], content)

    return encode
