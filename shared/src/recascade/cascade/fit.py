"""Training of a cascade: each stage once, later ones on what the earlier ones really send."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from recascade.bench.config import WITHOUT_EFFECT, RunConfig, concerns
from recascade.bench.run_sources import file_sources
from recascade.cascade.cascade import Cascade, RerankingStage
from recascade.cascade.config import CascadeConfig, Member
from recascade.cascade.held_lists import without_latest
from recascade.cascade.stage_folder import StageFolder, digest
from recascade.cascade.weigh import best_weight
from recascade.contracts.method import FIT_FILE, Experiment, RerankingExperiment
from recascade.contracts.ranker import Ranker
from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_from_events import lists_from_events
from recascade.data.reranking_lists import RerankingLists
from recascade.errors import ConfigurationError
from recascade.files import write_json

CASCADE_FILE = "cascade.json"
STAGES_FOLDER = "stages"
_LISTS_FOLDER = "lists"
_WEIGHT_FOLDER = "ranker-weight"


@dataclass(frozen=True)
class FittedStage:
    """A stage of a trained cascade.

    Attributes:
        slot: ``retriever``, ``ranker`` or ``reranker``.
        label: the method, with its variant.
        version: twelve hexadecimal digits of everything that decided the fit.
        facts: cost and size of the fit.
    """

    slot: str
    label: str
    version: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class FittedCascade:
    """A trained cascade, and where it comes from.

    Attributes:
        cascade: what recommends.
        stages: its stages, in their order.
        preparation: facts of what was computed only to choose a weight or to make lists to learn from.
    """

    cascade: Cascade
    stages: tuple[FittedStage, ...]
    preparation: tuple[Mapping[str, Any], ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What the run's record says of the fit; costs of stages that were found finished are those of their fit."""
        served = [stage.facts for stage in self.stages]
        everything = [*served, *self.preparation]
        return {
            "parameters": sum(each.get("parameters") or 0 for each in served),
            "fit_seconds": sum(each["fit_seconds"] for each in everything),
            "fit_cpu_seconds": sum(each["fit_cpu_seconds"] for each in everything),
        }


def fit(experiment: Experiment) -> Cascade:
    """Train what is not trained yet, leave a table of contents in the run directory, and return the cascade.

    Raises:
        ConfigurationError: ``trainer.refit`` or ``trainer.devices``, or a method that does not return what its stage
            needs.
        DataError: there is nothing to make lists from.
    """
    fitted = fit_stages(experiment)
    shared = _shared(experiment)
    contents = {
        "format": 1,
        "shared": os.path.relpath(shared, experiment.directory),
        "split": experiment.data.manifest.fingerprint,
        "stages": [asdict(stage) for stage in fitted.stages],
    }
    write_json(experiment.directory / CASCADE_FILE, contents)
    write_json(experiment.directory / FIT_FILE, fitted.facts)
    return fitted.cascade


def fit_stages(experiment: Experiment, *, train: bool = True) -> FittedCascade:
    """Every stage, trained now or opened where it was trained before.

    The retriever and the ranker learn all training events. A re-ranker learns from lists, and these are made by a
    second retriever and ranker of the same settings, which have not seen the latest training events; so the lists are
    as good as those that will be served, and no stage learns from outcomes of the validation or test part.

    Args:
        experiment: of the whole cascade.
        train: False opens alone what was trained before.

    Raises:
        ConfigurationError: as ``fit``.
        DataError: as ``fit``; or a stage is not there, and must not be trained.
    """
    config: CascadeConfig = experiment.config
    config.check_trainer(experiment.trainer)
    members = {member.slot: member for member in config.members}
    whole = _Fitter(experiment, experiment.data, train)
    cascade = whole.cascade(members, config.retrieved)
    stages = list(whole.stages)
    preparation: list[Mapping[str, Any]] = []
    if cascade.ranker is not None:
        weight, facts = _ranker_weight(whole, cascade.retriever, cascade.ranker)
        cascade = replace(cascade, ranker_weight=weight)
        preparation.append(facts)
    if "reranker" in members:
        earlier = _Fitter(experiment, without_latest(experiment.data, config.held_share), train)
        # The weight of the whole: one chosen here would have seen the outcomes of the lists that it orders.
        maker = replace(earlier.cascade(members, config.retrieved), ranker_weight=cascade.ranker_weight)
        lists, origin, cost = _lists(earlier, maker, config)
        stage = _fit_reranker(earlier, members["reranker"], lists, origin)
        stages.append(stage[1])
        cascade = replace(cascade, reranking=RerankingStage(stage[0], lists.inputs, config.reranked))
        preparation += [*(each.facts for each in earlier.stages), cost]
    return FittedCascade(cascade, tuple(stages), tuple(preparation))


class _Fitter:
    """Fits methods on one set of training events, each in its folder."""

    def __init__(self, experiment: Experiment, data: EncodedSplit, train: bool) -> None:
        self.experiment = experiment
        self.data = data
        self.train = train
        ends = hashlib.sha256(data.train_ends.tobytes()).hexdigest()[:12]
        # A stage may read more of the data set than the split's fingerprint covers, as the catalogue's columns.
        self.origin = f"{data.manifest.fingerprint}-{data.manifest.dataset_fingerprint[:12]}-{ends}"
        self.stages: list[FittedStage] = []

    def cascade(self, members: Mapping[str, Member], retrieved: int) -> Cascade:
        """Retriever and ranker, without what comes behind them."""
        retriever: Retriever = self._fit(members["retriever"])
        return Cascade(retriever, retrieved, self._ranker(members["ranker"]) if "ranker" in members else None)

    def _ranker(self, member: Member) -> Ranker:
        fitted = self._fit(member)
        # A method of the ranking stage takes part in the benchmark as a retriever around its ranker.
        ranker = getattr(fitted, "ranker", fitted)
        if not isinstance(ranker, Ranker):
            raise ConfigurationError(
                f"Method {member.method.name!r} says that it serves ranking, but its fit returned a "
                f"{type(fitted).__name__}, which has neither a function score(context, items) nor a ranker that has."
            )
        if isinstance(ranker, nn.Module):
            ranker.eval()
        return ranker

    def _fit(self, member: Member) -> Any:
        settings = _settings(self.experiment, member)
        identity = {**_identity(member, settings), "data": self.origin, "exclude_seen": self.experiment.exclude_seen}
        folder = StageFolder.below(_shared(self.experiment), member.label, identity)
        with folder.fitting(train=self.train):
            fitted = member.method.run(
                replace(
                    self.experiment,
                    config=settings.model,
                    trainer=replace(settings.trainer, progress=False),
                    data=self.data,
                    seed=settings.seed,
                    directory=folder.path,
                )
            )
        self.stages.append(FittedStage(member.slot, member.label, digest(identity), folder.facts or {}))
        return fitted


def _ranker_weight(fitter: _Fitter, retriever: Retriever, ranker: Ranker) -> tuple[float, Mapping[str, Any]]:
    """The weight, given or chosen once for these stages and kept, and what choosing it cost."""
    experiment = fitter.experiment
    config: CascadeConfig = experiment.config
    if config.ranker_weight is not None:
        return config.ranker_weight, {"fit_seconds": 0.0, "fit_cpu_seconds": 0.0}
    identity = {
        "stages": [stage.version for stage in fitter.stages],
        "retrieved": config.retrieved,
        "exclude_seen": experiment.exclude_seen,
        "monitor": experiment.trainer.monitor,
        "validation_users": experiment.trainer.validation_users,
        "seed": experiment.seed,
    }
    folder = StageFolder.below(_shared(experiment), _WEIGHT_FOLDER, identity)
    with folder.fitting(train=fitter.train):
        if folder.facts is None:
            chosen = best_weight(
                retriever,
                ranker,
                fitter.data,
                experiment.trainer,
                retrieved=config.retrieved,
                exclude_seen=experiment.exclude_seen,
                seed=experiment.seed,
            )
            write_json(folder.path / FIT_FILE, {"ranker_weight": chosen})
    facts = folder.facts or {}
    weight: float = facts["ranker_weight"]
    return weight, facts


def _lists(fitter: _Fitter, maker: Cascade, config: CascadeConfig) -> tuple[RerankingLists, str, Mapping[str, Any]]:
    """The lists, what decided them, and what they cost."""
    experiment = fitter.experiment
    settings = ListsConfig(
        candidates=config.reranked,
        history=config.history,
        window=config.list_window,
        most_lists=config.most_lists,
        exclude_seen=experiment.exclude_seen,
        initial="+".join(stage.label for stage in fitter.stages),
    )
    identity = {
        "stages": [stage.version for stage in fitter.stages],
        "ranker_weight": maker.ranker_weight,
        "retrieved": config.retrieved,
        "lists": asdict(settings),
    }
    folder = StageFolder.below(_shared(experiment), _LISTS_FOLDER, identity)
    with folder.fitting(train=fitter.train):
        if folder.facts is None:
            lists_from_events(fitter.data, maker, settings).save(folder.path)
        lists = RerankingLists.load(folder.path)
    return lists, digest(identity), folder.facts or {}


def _fit_reranker(fitter: _Fitter, member: Member, lists: RerankingLists, origin: str) -> tuple[Any, FittedStage]:
    experiment = fitter.experiment
    settings = _settings(experiment, member)
    identity = {**_identity(member, settings), "lists": origin}
    folder = StageFolder.below(_shared(experiment), member.label, identity)
    with folder.fitting(train=fitter.train):
        reranker = member.method.run_on_lists(
            RerankingExperiment(
                config=settings.model,
                trainer=replace(settings.trainer, progress=False),
                lists=lists,
                seed=settings.seed,
                directory=folder.path,
            )
        )
    return reranker, FittedStage(member.slot, member.label, digest(identity), folder.facts or {})


def _settings(experiment: Experiment, member: Member) -> RunConfig:
    # A method without randomness is the same for every seed of the cascade, and computed once for all of them.
    seed = experiment.seed if member.method.trained else 0
    return member.config(asdict(experiment.trainer), seed=seed)


def _identity(member: Member, settings: RunConfig) -> dict[str, Any]:
    trainer = {
        key: value
        for key, value in asdict(settings.trainer).items()
        if f"trainer.{key}" not in WITHOUT_EFFECT and concerns(member.method, f"trainer.{key}")
    }
    return {
        "method": member.method.name,
        "settings": asdict(settings.model),
        "trainer": trainer,
        "seed": settings.seed,
        "files": file_sources(settings),
    }


def _shared(experiment: Experiment) -> Path:
    return experiment.shared or experiment.directory / STAGES_FOLDER
