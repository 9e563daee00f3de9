"""ReCast in the benchmark: supervised training on some users, then reinforcement on the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from recascade.contracts.method import Experiment
from recascade.data.next_item import NextItemData
from recascade.data.prefixes import PrefixData, generator_data
from recascade.errors import ConfigurationError
from recascade.files import write_json
from recascade.models.beam_widths import beam_widths
from recascade.models.code_generator import CodeGenerator
from recascade.models.generative_retriever import GenerativeRetriever, Sharing
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.code_start import start_from_content
from recascade.training.config import TrainerConfig
from recascade.training.fit import FitResult
from recascade.training.fit import fit as train
from recascade.training.generative import GenerativeModule
from recascade_recast.build import TAUGHT, build_generator, check_taught, load_start, semantic_ids, start_folder
from recascade_recast.config import ReCastConfig, RolloutConfig
from recascade_recast.guard import HealthGuard
from recascade_recast.module import ReCastModule, check_precision
from recascade_recast.users import of_users, reinforced_users

SECOND_STAGE = "reinforced"


def fit(experiment: Experiment) -> GenerativeRetriever:
    """Train on some users, or take the weights of such a run; then do with the others what the settings say.

    ``weights.safetensors`` in the run directory is the supervised model, from which other variants can start; the
    second stage writes into the folder ``reinforced``. An interrupted fit goes on from the stage that it was in.

    Raises:
        ConfigurationError: the settings do not fit the ids, the weights, who taught them, the validation users, the
            precision or the number of devices.
        DataError: there is no user to train on.
    """
    settings: ReCastConfig = experiment.config
    data = experiment.data
    if settings.stage == "reinforce":
        _check_reinforcement(experiment)
    start = start_folder(settings, experiment.seed)
    taught = {
        "split": experiment.split.manifest.fingerprint,
        "seed": experiment.seed,
        "reinforced_users": settings.reinforced_users,
    }
    if start is not None:
        check_taught(start, taught)
    ids = semantic_ids(settings, experiment, start)
    torch.manual_seed(experiment.seed)
    codes = torch.from_numpy(ids.codes_for(data.items)).long()
    if settings.stage == "reinforce":
        _check_width(settings.rollout, codes)
    model = build_generator(settings.generator, codes, ids.sizes)
    supervised = GenerativeModule(
        model,
        data,
        experiment.trainer,
        beam_widths(settings.beams, len(ids.sizes)),
        sharing=cast(Sharing, settings.sharing),
        exclude_seen=experiment.exclude_seen,
    )
    reinforced = reinforced_users(len(data.users), settings.reinforced_users, experiment.seed)
    results, facts = [], dict[str, Any]()
    if start is not None:
        load_start(model, start)
    else:
        write_json(experiment.directory / TAUGHT, taught)
        if settings.generator.code_start == "content":
            start_from_content(model, ids)
        batches = _supervised_batches(model, experiment, ~reinforced)
        results.append(train(supervised, batches, experiment.trainer, experiment.directory, experiment.seed))
    if settings.stage == "reinforce":
        result, facts = _reinforce(model, supervised, codes, experiment, reinforced)
        results.append(result)
    elif settings.stage == "continue":
        results.append(_continue(supervised, experiment, reinforced))
    write_facts(experiment.directory, model, results, **facts)
    return on_accelerator(supervised, experiment.trainer).retriever()


def _check_reinforcement(experiment: Experiment) -> None:
    """Refuse, before anything is trained, what the second stage cannot do."""
    trainer, guard = experiment.trainer, experiment.config.guard
    if trainer.devices > 1:
        raise ConfigurationError(
            f"trainer.devices is {trainer.devices}, but reinforcement runs on one device; set it to 1."
        )
    check_precision(trainer)
    if guard.every and guard.stop and not len(experiment.data.validation):
        raise ConfigurationError(
            "model.guard.stop measures the model on validation users, but the split has none; leave it out."
        )


def _check_width(settings: RolloutConfig, codes: torch.Tensor) -> None:
    """Refuse, before anything is trained, a beam that asks for more ids than items have."""
    there = len(torch.unique(codes, dim=0))
    if settings.search == "beam" and settings.constrained and settings.width > there:
        raise ConfigurationError(
            f"model.rollout.width is {settings.width}, but the items have only {there} different ids; set a smaller "
            "width, or model.rollout.search=sample."
        )


def _supervised_batches(model: CodeGenerator, experiment: Experiment, chosen: NDArray[np.bool_]) -> NextItemData:
    data, trainer, seed = experiment.data, experiment.trainer, experiment.seed
    whole = generator_data(data, trainer, max_length=model.max_length, one_pass=model.one_pass, seed=seed)
    return of_users(whole, chosen)


def _prompts(
    experiment: Experiment, trainer: TrainerConfig, chosen: NDArray[np.bool_], max_length: int
) -> NextItemData:
    """Prompts of the second stage: the same in the same order for every variant of a seed."""
    return of_users(PrefixData(experiment.data, trainer, max_length=max_length, seed=experiment.seed), chosen)


def _second_stage(experiment: Experiment, optimiser_steps: int) -> tuple[TrainerConfig, Path]:
    """How to train, and where, until so many steps are made; validation chooses nothing there."""
    settings: ReCastConfig = experiment.config
    update = settings.update
    trainer = replace(
        experiment.trainer,
        max_steps=optimiser_steps,
        # The steps end it; an epoch has at least one.
        max_epochs=optimiser_steps + 1,
        batch_sequences=settings.rollout.prompts,
        batch_tokens=0,
        learning_rate=update.learning_rate,
        warmup_steps=update.warmup_steps,
        weight_decay=update.weight_decay,
        gradient_clip=update.gradient_clip,
        validate_every=0,
        patience=0,
    )
    directory = experiment.directory / SECOND_STAGE
    directory.mkdir(exist_ok=True)
    return trainer, directory


def _continue(supervised: GenerativeModule, experiment: Experiment, chosen: NDArray[np.bool_]) -> FitResult:
    """Supervised training on the prompts that reinforcement would see, each target as often as there."""
    settings: ReCastConfig = experiment.config
    trainer, directory = _second_stage(experiment, settings.update.steps)
    supervised.trainer_config = trainer
    batches = _prompts(experiment, trainer, chosen, supervised.model.max_length)
    return train(supervised, batches, trainer, directory, experiment.seed)


def _reinforce(
    model: CodeGenerator,
    supervised: GenerativeModule,
    codes: torch.Tensor,
    experiment: Experiment,
    chosen: NDArray[np.bool_],
) -> tuple[FitResult, dict[str, Any]]:
    settings: ReCastConfig = experiment.config
    trainer, directory = _second_stage(experiment, settings.update.steps * settings.update.passes)
    # The module clips by itself: it decides when a step is made.
    trainer = replace(trainer, gradient_clip=0.0)
    batches = _prompts(experiment, trainer, chosen, model.max_length)
    guards = []
    # Without validation users there is no hit rate, before or after.
    if settings.guard.every and len(experiment.data.validation):
        guards.append(
            HealthGuard(
                settings.guard,
                settings.update.passes,
                experiment.data,
                _guarded_rows(len(experiment.data.validation), settings.guard.users, experiment.seed),
                supervised.retriever,
                directory,
                exclude_seen=experiment.exclude_seen,
            )
        )
    module = ReCastModule(model, codes, settings, trainer, callbacks=guards)
    result = train(module, batches, trainer, directory, experiment.seed)
    facts: dict[str, Any] = {"reinforcement": module.tally.totals}
    return result, facts | ({"health": guards[0].report} if guards else {})


def _guarded_rows(users: int, most: int, seed: int) -> torch.Tensor:
    rows = np.random.default_rng((seed, 7)).permutation(users)[:most]
    return torch.from_numpy(np.sort(rows))
