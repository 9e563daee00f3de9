"""The models that regenerate: one of all domains, and from it an expert of each."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_model

from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.events import offsets_of, ranges
from recascade.data.next_item import NextItemData, Windows
from recascade.errors import ConfigurationError
from recascade.files import read_json, write_json
from recascade.models.post_norm_sasrec import PostNormSASRec
from recascade.training.config import TrainerConfig
from recascade.training.fit import WEIGHTS, fit
from recascade.training.next_item import NextItemModule
from recascade_taesar.adaptation import AdaptationData, AdaptationModule, successors
from recascade_taesar.config import RegeneratorConfig

MODELS = "models"
_FINISHED = "finished.json"


@dataclass(frozen=True)
class RegenerationModels:
    """The mixed model, and the expert of each domain in the order of the split's item domains."""

    mixed: PostNormSASRec
    experts: Sequence[PostNormSASRec]


def train_models(
    data: EncodedSplit, config: RegeneratorConfig, directory: Path, seed: int, trainer: TrainerConfig
) -> RegenerationModels:
    """Train the mixed model, then each expert from its best weights; what is finished already is read.

    A domain in which no user has two training events has nothing to adapt to: its expert is the mixed model.

    Args:
        data: the encoded split, with item domains; its test part is not touched. A target domain of the split changes
            nothing: the validation events of all domains choose, as the models are those of all domains.
        config: shapes, epochs, patience.
        directory: where the models are kept, each in a folder of its own with its training log.
        seed: of every random choice.
        trainer: accelerator and logging; the rest is ``config``'s.

    Returns:
        The models in evaluation mode.

    Raises:
        ConfigurationError: the models that are there already have other shapes, or know other items.
    """
    data = _of_all_domains(data)
    assert data.item_domains is not None
    _claim_items(data, directory)
    torch.manual_seed(seed)
    mixed = PostNormSASRec(
        len(data.items), config.dimension, config.blocks, config.heads, config.max_length, config.dropout
    )
    windows = cast(Windows, config.windows)
    settings = _settings(trainer, config, config.epochs, config.patience)
    _train(
        NextItemModule(mixed, data, config.loss, settings),
        NextItemData(data, settings, max_length=config.max_length, windows=windows, seed=seed),
        directory / "mixed",
    )
    following = successors(data)
    settings = _settings(trainer, config, max(1, config.adaptation_epochs), config.adaptation_patience)
    experts = []
    for domain, name in enumerate(data.item_domains.names):
        expert = copy.deepcopy(mixed)
        own = _of_domain(data, name)
        batches = AdaptationData(
            own,
            settings,
            domain=domain,
            following=following,
            max_length=config.max_length,
            windows=windows,
            seed=seed,
        )
        if config.adaptation_epochs and len(batches.windows.users):
            members = torch.from_numpy(data.item_domains.members(name))
            _train(AdaptationModule(expert, own, members, settings), batches, directory / f"expert-{domain}")
        experts.append(expert.eval())
    return RegenerationModels(mixed.eval(), experts)


def _claim_items(data: EncodedSplit, directory: Path) -> None:
    """Write down which items the models know, in which order, or refuse models of others."""
    digest, path = data.items.digest(), directory / "items.json"
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, {"count": len(data.items), "sha256": digest})
    elif (theirs := read_json(path))["sha256"] != digest:
        raise ConfigurationError(
            f"The models in {directory} know {theirs['count']:,} items that are not the {len(data.items):,} of this "
            "split; use the split that they were trained on, or train new ones."
        )


def models_folder(named: str, workplace: Path, seed: int) -> Path:
    """Where the models of a seed are kept: in the workplace, or in a folder of finished ones that the settings name.

    Raises:
        ConfigurationError: there are no finished models in the named folder, nor in its ``seed-N``.
    """
    if not named:
        return workplace / MODELS
    folder = Path(named).expanduser()
    for place in (folder / f"seed-{seed}", folder):
        if (place / "mixed" / _FINISHED).is_file():
            return place
    raise ConfigurationError(
        f"There are no finished models in {folder} or its seed-{seed}; set model.models to the folder 'models' of an "
        "earlier regeneration, or leave it out."
    )


def _settings(trainer: TrainerConfig, config: RegeneratorConfig, epochs: int, patience: int) -> TrainerConfig:
    return replace(
        trainer,
        max_epochs=epochs,
        max_steps=-1,
        learning_rate=config.learning_rate,
        # Adam's own default, as in the release.
        adam_beta2=0.999,
        weight_decay=0.0,
        warmup_steps=0,
        gradient_clip=0.0,
        batch_sequences=config.batch_sequences,
        batch_tokens=0,
        patience=patience,
        validate_every=1 if patience else 0,
        validation_users=config.validation_users,
        monitor="ndcg@10",
    )


def _train(module: NextItemModule, batches: NextItemData, directory: Path) -> None:
    """Train ``module.model``, go on with it, or read it where it is finished."""
    if (directory / _FINISHED).is_file():
        try:
            load_model(module.model, str(directory / WEIGHTS))
        except RuntimeError as error:
            raise ConfigurationError(
                f"The models in {directory.parent} have other shapes than model.regenerator says; set the values that "
                "they were trained with."
            ) from error
        return
    directory.mkdir(parents=True, exist_ok=True)
    result = fit(module, batches, module.trainer_config, directory, batches.seed)
    facts: dict[str, Any] = {name: getattr(result, name) for name in ("epochs", "best_epoch", "seconds", "cpu_seconds")}
    write_json(directory / _FINISHED, facts)


def training_facts(directory: Path) -> dict[str, Any]:
    """What each finished training under ``directory`` took: epochs, best_epoch, seconds, cpu_seconds."""
    return {file.parent.name: read_json(file) for file in sorted(directory.glob(f"*/{_FINISHED}"))}


def _of_all_domains(data: EncodedSplit) -> EncodedSplit:
    """The split as it is without a target domain: every validation event of a known item is a target."""
    if not data.manifest.config.target_domain:
        return data
    starts = np.asarray(data.train_ends)
    lengths = np.asarray(data.events.offsets[1:]) - starts
    users = np.flatnonzero((lengths > 0) & (data.train_lengths > 0))
    events = ranges(starts[users], lengths[users])
    validation = HeldOut(
        users=users,
        history_ends=starts[users],
        target_offsets=offsets_of(lengths[users]),
        target_items=np.asarray(data.events.items)[events],
        target_timestamps=np.asarray(data.events.timestamps)[events],
    )
    return replace(_of_domain(data, ""), validation=validation)


def _of_domain(data: EncodedSplit, name: str) -> EncodedSplit:
    """The split with one domain's items alone to be ranked."""
    manifest = data.manifest
    return replace(data, manifest=replace(manifest, config=replace(manifest.config, target_domain=name)))
