"""PSAD in the benchmark: what is trained with what, and what serves."""

from __future__ import annotations

import torch

from recascade.contracts.method import FIT_FILE, RerankingExperiment
from recascade.contracts.reranker import Reranker
from recascade.data.reranking_data import RerankingData
from recascade.errors import ConfigurationError
from recascade.files import write_json
from recascade.training.fit import FitResult
from recascade.training.fit import fit as train
from recascade_psad.config import PSADConfig
from recascade_psad.model import PSADModel
from recascade_psad.module import PSADModule
from recascade_psad.reranker import StudentReranker, TeacherReranker
from recascade_psad.run_folder import write_facts

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
    write_facts(experiment.directory, settings, experiment.lists.inputs)
    write_json(experiment.directory / FIT_FILE, _facts(model, results))
    if torch.cuda.is_available() and experiment.trainer.accelerator in ("auto", "gpu", "cuda"):
        model.to("cuda")
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


def _facts(model: PSADModel, results: list[FitResult]) -> dict[str, object]:
    """Costs of all stages together; epochs are those of the last."""
    seconds = sum(result.seconds for result in results)
    served = [model.teacher] if model.config.serve == "teacher" else [model.student]
    profile = model.teacher_profile if model.config.serve == "teacher" and model.teacher_profile else model.profile
    return {
        "epochs": results[-1].epochs,
        "best_epoch": results[-1].best_epoch,
        "parameters": _parameters([model]),
        "served_parameters": _parameters([profile, *served]),
        "targets_per_second": sum(result.targets for result in results) / seconds if seconds else 0.0,
        "fit_seconds": seconds,
        "fit_cpu_seconds": sum(result.cpu_seconds for result in results),
    }


def _parameters(modules: list[torch.nn.Module | None]) -> int:
    return sum(parameter.numel() for module in modules if module is not None for parameter in module.parameters())
