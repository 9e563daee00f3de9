"""A small log and fits of GR4AD on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from recascade.bench.config import compose
from recascade.contracts.method import Experiment
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade.models.beam_widths import beam_widths
from recascade.models.generative_retriever import GenerativeRetriever
from recascade_gr4ad.ad_batches import AdData, event_worth
from recascade_gr4ad.ad_values import AdValues, ad_values
from recascade_gr4ad.build import build_decoder, codes_of
from recascade_gr4ad.config import GR4ADConfig
from recascade_gr4ad.fit import semantic_ids, value_buckets
from recascade_gr4ad.method import METHOD
from recascade_gr4ad.module import GR4ADModule

SMALL = {
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "trainer.learning_rate": 0.01,
    "model.dimension": 8,
    "model.heads": 2,
    "model.hidden": 16,
    "model.layers": 3,
    "model.trunk_layers": 2,
    "model.max_length": 10,
    "model.beams": [20],
    # Forty items do not fill the usual codebooks.
    "model.tokenizer.sizes": [6, 4, 16],
    "model.values.buckets": 6,
    "model.preference.requests": 40,
    "model.preference.length": 8,
    "model.preference.steps": 5,
    "model.preference.batch": 16,
}


class Prepared(NamedTuple):
    split: Split
    data: EncodedSplit


def prepare(folder: Path, **settings: Any) -> Prepared:
    """A generated log of 80 users and 40 items with features, prices and baskets, and its split."""
    ties = settings.pop("ties", "shuffle")
    shape = {"users": 80, "items": 40, "mean_length": 12.0, "follow": 0.9, "features": True, "seed": 2}
    log = markov_log(folder / "log", **{**shape, **settings})
    split = make_split(log, SplitConfig(ties=ties), folder / "split")
    return Prepared(split, encode(split))


def experiment(prepared: Prepared, directory: Path, variant: str = "default", **overrides: Any) -> Experiment:
    """What ``fit`` is given; overrides are dotted keys with ``__`` for the dots."""
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    without = {key: None for key, value in METHOD.variants[variant].items()}
    settings = {key: value for key, value in SMALL.items() if key.removeprefix("model.") not in without}
    config = compose(METHOD, data="log", variant=variant, overrides=settings | chosen)
    directory.mkdir(exist_ok=True)
    return Experiment(config.model, config.trainer, prepared.data, prepared.split, seed=1, directory=directory)


def fitted(prepared: Prepared, directory: Path, variant: str = "default", **overrides: Any) -> GenerativeRetriever:
    """Fit a variant."""
    retriever = METHOD.run(experiment(prepared, directory, variant, **overrides))
    assert isinstance(retriever, GenerativeRetriever)
    return retriever


def module_of(
    prepared: Prepared, directory: Path, variant: str = "default", **overrides: Any
) -> tuple[GR4ADModule, AdData, AdValues | None]:
    """An untrained module and its batches, put together as ``fit`` does."""
    given = experiment(prepared, directory, variant, **overrides)
    settings: GR4ADConfig = given.config
    ids = semantic_ids(settings, given)
    values = ad_values(given.data, given.split, settings.values, given.seed)
    buckets = value_buckets(settings, given.data, values)
    torch.manual_seed(given.seed)
    count = 0 if buckets is None else len(buckets)
    model = build_decoder(settings, codes_of(ids, given.data.items), ids.sizes, count, given.data.user_features)
    widths = beam_widths(settings.beams, len(ids.sizes))
    module = GR4ADModule(model, settings, given.data, given.trainer, widths, buckets=buckets)
    worth = event_worth(given.data, values, buckets, settings.values)
    ads = AdData(given.data, worth, given.trainer, max_length=settings.max_length, seed=1)
    return module, ads, values
