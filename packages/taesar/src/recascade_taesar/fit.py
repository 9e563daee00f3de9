"""Taesar in the benchmark: regenerate the target domain's data, then train a backbone on them."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from recascade.contracts.method import FIT_FILE, Experiment
from recascade.contracts.retriever import Retriever
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError
from recascade.files import write_json
from recascade_taesar.backbones import train_backbone
from recascade_taesar.config import TaesarConfig
from recascade_taesar.models import training_facts
from recascade_taesar.regenerate import regenerate
from recascade_taesar.retriever import DomainRetriever

WORKPLACE = "regeneration"


def fit(experiment: Experiment) -> Retriever:
    """Regenerate into the run directory (or read what an interrupted run left there), then train the backbone.

    Raises:
        ConfigurationError: the split has no target domain, or ``trainer.refit`` is set.
        DataError: the data have no domains, or the domain has nothing to learn from.
    """
    config: TaesarConfig = experiment.config
    if experiment.trainer.refit:
        raise ConfigurationError(
            "trainer.refit is not possible with Taesar, whose data sets carry their own parts; leave it out."
        )
    target = experiment.split.manifest.config.target_domain
    if not target:
        domains = experiment.data.item_domains
        names = f", one of {', '.join(domains.names)}" if domains is not None else ""
        raise ConfigurationError(f"Taesar needs a target domain: set split.target_domain=NAME{names}.")
    data = experiment.data if config.training_data == "mixed" else _domain_data(experiment, config, target)
    retriever, result = train_backbone(experiment, data, config.backbone)
    facts: dict[str, Any] = {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "parameters": sum(parameter.numel() for parameter in cast(nn.Module, retriever.model).parameters()),
        "targets_per_second": result.targets_per_second,
        "regenerator": training_facts(experiment.directory / WORKPLACE / "models"),
    }
    write_json(experiment.directory / FIT_FILE, facts)
    return retriever if data is experiment.data else DomainRetriever(retriever, data, experiment.data)


def _domain_data(experiment: Experiment, config: TaesarConfig, target: str) -> EncodedSplit:
    """The data of the target domain that the settings ask for, made unless they are there already."""
    folder = experiment.directory / "regenerated"
    if not folder.is_dir():
        regenerate(
            experiment.split,
            experiment.data,
            config,
            {target: folder},
            experiment.directory / WORKPLACE,
            seed=experiment.seed,
            trainer=experiment.trainer,
        )
    split = experiment.directory / "regenerated-split"
    given = Split.open(split) if split.is_dir() else make_split(Dataset.open(folder), SplitConfig(), split)
    return encode(given)
