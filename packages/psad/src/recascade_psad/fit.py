"""PSAD in the benchmark: what is trained with what, and what serves."""

from __future__ import annotations

import torch

from recascade.contracts.method import RerankingExperiment
from recascade.contracts.reranker import Reranker
from recascade.data.reranking_data import RerankingData
from recascade.errors import ConfigurationError
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.fit import FitResult
from recascade.training.fit import fit as train
from recascade_psad import run_folder
from recascade_psad.config import PSADConfig
from recascade_psad.model import PSADModel
from recascade_psad.module import PSADModule
from recascade_psad.reranker import StudentReranker, TeacherReranker

TEACHER_FOLDER = "teacher"


def fit(experiment: RerankingExperiment) -> Reranker:
    """Train what the settings say and return what serves.

    ``weights.safetensors`` in the run directory holds both networks as they were when the serving one was best on the
    validation lists. Offline, the teacher is trained first, into the folder ``teacher``. An interrupted fit goes on
    from the stage that it was in.

    Raises:
        ConfigurationError: two stages cannot be trained on several devices.
        DataError: no training list has a positive label.
    """
    settings: PSADConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = PSADModel(settings, experiment.lists.schema)
    reranker = TeacherReranker(model) if settings.serve == "teacher" else StudentReranker(model)
    if settings.train == "offline":
        results = [_train_teacher(model, experiment)]
        for part in (model.teacher, model.teacher_profile):
            assert part is not None
            part.requires_grad_(False)
        module = PSADModule(model, reranker, experiment.trainer, teacher_learns=False, student_learns=True)
    else:
        results = []
        module = PSADModule(
            model,
            reranker,
            experiment.trainer,
            teacher_learns=model.teacher is not None,
            student_learns=model.student is not None,
        )
    results.append(train(module, _lists(experiment), experiment.trainer, experiment.directory, experiment.seed))
    run_folder.write_facts(experiment.directory, settings, experiment.lists.inputs)
    # The last stage is the one that serves.
    epochs = {"epochs": results[-1].epochs, "best_epoch": results[-1].best_epoch}
    write_facts(experiment.directory, model, results, served_parameters=_served_parameters(model), **epochs)
    on_accelerator(model, experiment.trainer)
    return reranker


def _train_teacher(model: PSADModel, experiment: RerankingExperiment) -> FitResult:
    if experiment.trainer.devices > 1:
        raise ConfigurationError(
            f"trainer.devices is {experiment.trainer.devices}, but model.train=offline runs on one device; set it to 1."
        )
    directory = experiment.directory / TEACHER_FOLDER
    directory.mkdir(exist_ok=True)
    module = PSADModule(model, TeacherReranker(model), experiment.trainer, teacher_learns=True, student_learns=False)
    return train(module, _lists(experiment), experiment.trainer, directory, experiment.seed)


def _lists(experiment: RerankingExperiment) -> RerankingData:
    return RerankingData(experiment.lists, experiment.trainer, seed=experiment.seed)


def _served_parameters(model: PSADModel) -> int:
    """Parameters of the network that serves and of the profile that it reads."""
    teaches = model.config.serve == "teacher"
    profile = model.teacher_profile if teaches and model.teacher_profile else model.profile
    parts = [profile, model.teacher if teaches else model.student]
    return sum(parameter.numel() for part in parts if part is not None for parameter in part.parameters())
