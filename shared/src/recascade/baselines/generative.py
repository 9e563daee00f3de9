"""Fit functions of the generative baselines: make ids, train the generator, serve it behind a beam search."""

from __future__ import annotations

from typing import cast

import torch

from recascade.baselines.generative_config import DecoderOnlyConfig, TIGERConfig
from recascade.contracts.method import Experiment
from recascade.data.prefixes import generator_data
from recascade.models.beam_widths import beam_widths
from recascade.models.code_generator import CodeGenerator
from recascade.models.decoder_only import DecoderOnly
from recascade.models.generative_retriever import GenerativeRetriever, Sharing
from recascade.models.history_tokens import Reading
from recascade.models.tiger import TIGER
from recascade.tokenizers.run_ids import ids_of_run
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.tokenize import tokenize
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.code_start import start_from_content
from recascade.training.fit import fit
from recascade.training.generative import GenerativeModule


def fit_tiger(experiment: Experiment) -> GenerativeRetriever:
    """Train TIGER."""
    settings: TIGERConfig = experiment.config
    ids = _semantic_ids(settings, experiment)
    torch.manual_seed(experiment.seed)
    model = TIGER(
        torch.from_numpy(ids.codes_for(experiment.data.items)),
        ids.sizes,
        dimension=settings.dimension,
        encoder_blocks=settings.encoder_blocks,
        decoder_blocks=settings.decoder_blocks,
        heads=settings.heads,
        head_width=settings.head_width,
        hidden=settings.hidden,
        max_length=settings.max_length,
        dropout=settings.dropout,
        causal=settings.encoder == "causal",
        reading=cast(Reading, settings.reading),
        user_buckets=settings.user_buckets,
    )
    return _train(model, ids, settings, experiment)


def fit_decoder_only(experiment: Experiment) -> GenerativeRetriever:
    """Train the decoder-only generator."""
    settings: DecoderOnlyConfig = experiment.config
    ids = _semantic_ids(settings, experiment)
    torch.manual_seed(experiment.seed)
    model = DecoderOnly(
        torch.from_numpy(ids.codes_for(experiment.data.items)),
        ids.sizes,
        dimension=settings.dimension,
        blocks=settings.blocks,
        heads=settings.heads,
        head_width=settings.head_width,
        hidden=settings.hidden,
        max_length=settings.max_length,
        dropout=settings.dropout,
        reading=cast(Reading, settings.reading),
        user_buckets=settings.user_buckets,
    )
    return _train(model, ids, settings, experiment)


def _semantic_ids(settings: TIGERConfig | DecoderOnlyConfig, experiment: Experiment) -> SemanticIds:
    def make() -> SemanticIds:
        return tokenize(experiment.data, experiment.split, settings.tokenizer, experiment.seed).ids

    return ids_of_run(experiment.directory, settings.ids, make, fingerprint=experiment.data.manifest.fingerprint)


def _train(
    model: CodeGenerator, ids: SemanticIds, settings: TIGERConfig | DecoderOnlyConfig, experiment: Experiment
) -> GenerativeRetriever:
    """Train on the next items' ids, leave the facts of the training in the run directory, serve the best weights."""
    if settings.code_start == "content":
        start_from_content(model, ids)
    module = GenerativeModule(
        model,
        experiment.data,
        experiment.trainer,
        beam_widths(settings.beams, len(model.sizes)),
        sharing=cast(Sharing, settings.sharing),
        exclude_seen=experiment.exclude_seen,
    )
    data, trainer, seed = experiment.data, experiment.trainer, experiment.seed
    batches = generator_data(data, trainer, max_length=model.max_length, one_pass=model.one_pass, seed=seed)
    result = fit(module, batches, trainer, experiment.directory, seed)
    write_facts(experiment.directory, model, [result])
    return on_accelerator(module, experiment.trainer).retriever()
