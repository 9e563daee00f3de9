"""Training of GR4AD: ids, values, value-aware supervised learning, then perhaps ranking of generated lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model

from recascade.contracts.method import Experiment
from recascade.data.encoded import EncodedSplit
from recascade.data.events import ranges
from recascade.errors import ConfigurationError, DataError
from recascade.models.beam_widths import beam_widths
from recascade.models.generative_retriever import GenerativeRetriever
from recascade.tokenizers.run_ids import IDS_FILE, ids_of_run
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.tokenizers.tokenize import tokenize
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.code_start import start_from_content
from recascade.training.fit import FitResult
from recascade.training.fit import fit as train
from recascade_gr4ad.ad_batches import AdData, event_worth
from recascade_gr4ad.ad_values import AdValues, ad_values
from recascade_gr4ad.build import build_decoder, codes_of
from recascade_gr4ad.candidate_lists import ListData, generate_lists
from recascade_gr4ad.config import GR4ADConfig
from recascade_gr4ad.lazy_ar import LazyAR
from recascade_gr4ad.module import GR4ADModule
from recascade_gr4ad.run_folder import PREFERENCE_FOLDER, TEXT_ENCODER, write_run
from recascade_gr4ad.value_buckets import ValueBuckets


def fit(experiment: Experiment) -> GenerativeRetriever:
    """Train, leave in the run directory what a service needs, and serve the best weights.

    An interrupted fit goes on from the checkpoint of the stage that it was in.

    Raises:
        DataError: ids or values cannot be used.
        ConfigurationError: the settings do not fit the ids or the data.
    """
    settings: GR4ADConfig = experiment.config
    data = experiment.data
    ids = semantic_ids(settings, experiment)
    values = ad_values(data, experiment.split, settings.values, experiment.seed)
    buckets = value_buckets(settings, data, values)
    torch.manual_seed(experiment.seed)
    codes = codes_of(ids, data.items)
    model = build_decoder(settings, codes, ids.sizes, 0 if buckets is None else len(buckets), data.user_features)
    if settings.code_start == "content":
        start_from_content(model, ids)
    module = GR4ADModule(
        model,
        settings,
        data,
        experiment.trainer,
        beam_widths(settings.beams, len(ids.sizes)),
        buckets=buckets,
        exclude_seen=experiment.exclude_seen,
    )
    worth = event_worth(data, values, buckets, settings.values)
    ads = AdData(data, worth, experiment.trainer, max_length=settings.max_length, seed=experiment.seed)
    results = []
    start = _start_of(settings)
    if start is not None:
        _load(model, start)
    else:
        results.append(train(module, ads, experiment.trainer, experiment.directory, experiment.seed))
    if settings.preference.objective != "none" and values is not None:
        results.append(_rank(module, ads, values, experiment))
    write_run(experiment.directory, settings, data, ids, buckets, values, model)
    synthetic = values is not None and values.synthetic
    write_facts(experiment.directory, model, results, synthetic_values=synthetic)
    return on_accelerator(module, experiment.trainer).retriever()


def semantic_ids(settings: GR4ADConfig, experiment: Experiment) -> SemanticIds:
    """The ids of the run; new ones come with the encoder that new ads' words will need."""

    def make() -> SemanticIds:
        made = tokenize(experiment.data, experiment.split, settings.tokenizer, experiment.seed)
        if made.content.encoder is not None:
            made.content.encoder.save(experiment.directory / TEXT_ENCODER)
        return made.ids

    start = _start_of(settings)
    given = settings.ids or (None if start is None else _ids_beside(start))
    return ids_of_run(experiment.directory, given, make, fingerprint=experiment.data.manifest.fingerprint)


def value_buckets(settings: GR4ADConfig, data: EncodedSplit, values: AdValues | None) -> ValueBuckets | None:
    """The eCPM buckets of the known training values; None without an eCPM step."""
    if values is None or not settings.values.buckets:
        return None
    trained = values.events[ranges(data.events.offsets[:-1], data.train_lengths)]
    return ValueBuckets.fit(trained[~np.isnan(trained)], settings.values.buckets)


def _rank(module: GR4ADModule, ads: AdData, values: AdValues, experiment: Experiment) -> FitResult:
    """The second stage: lists from the model as it is now, then steps on them."""
    settings: GR4ADConfig = experiment.config
    preference = settings.preference
    lists = generate_lists(
        on_accelerator(module, experiment.trainer).retriever(),
        ads,
        values,
        preference,
        settings.values,
        seed=experiment.seed,
    )
    # Recall chose the first stage's weights; the second runs its steps to the end, whatever recall says.
    trainer = replace(
        experiment.trainer,
        max_steps=preference.steps,
        max_epochs=-(-preference.steps // max(1, len(lists.rows) // preference.batch)) + 1,
        batch_sequences=preference.batch,
        batch_tokens=0,
        learning_rate=preference.learning_rate,
        warmup_steps=0,
        validate_every=0,
        patience=0,
    )
    directory = experiment.directory / PREFERENCE_FOLDER
    directory.mkdir(exist_ok=True)
    module.trainer_config = trainer
    data = ListData(ads, lists, module.model.history.item_codes.cpu(), trainer)
    return train(module, data, trainer, directory, experiment.seed)


def _start_of(settings: GR4ADConfig) -> Path | None:
    """The weights that the second stage starts from; None where it follows a first one."""
    if not settings.preference.start:
        return None
    weights = Path(settings.preference.start).expanduser()
    if not weights.is_file():
        raise DataError(f"There is no file {weights}; set model.preference.start to a run's weights.safetensors.")
    return weights


def _ids_beside(weights: Path) -> Path:
    """The ids of the run that wrote these weights, which mean nothing with others."""
    # The weights of a second stage lie one folder deeper than the ids of their run.
    for folder in (weights.parent, weights.parent.parent):
        if (folder / IDS_FILE).is_file():
            return folder / IDS_FILE
    raise DataError(
        f"There is no {IDS_FILE} beside {weights}, and weights need the ids that they were trained with; set model.ids "
        "to them."
    )


def _load(model: LazyAR, path: Path) -> None:
    try:
        load_model(model, path)
    except (RuntimeError, SafetensorError) as error:
        raise ConfigurationError(
            f"{path} does not hold the weights of this decoder; start the second stage with the ids, values and model "
            "settings of the run that wrote it."
        ) from error
