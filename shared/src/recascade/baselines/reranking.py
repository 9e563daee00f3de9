"""Fit functions of the re-rankers: build, train on the lists, serve the best weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn

from recascade.baselines import reranking_config
from recascade.contracts.method import RerankingExperiment
from recascade.contracts.reranker import Reranker
from recascade.data.reranking_data import RerankingData
from recascade.evaluation.evaluate_lists import evaluate_lists
from recascade.evaluation.list_config import ListEvaluationConfig
from recascade.evaluation.list_metrics import parse_list_metric
from recascade.models.dlcm import DLCM
from recascade.models.dpp import DPP
from recascade.models.initial_order import InitialOrder
from recascade.models.list_inputs import UserInput
from recascade.models.list_model import GeneratingReranker, ScoringModel, ScoringReranker, SlotModel
from recascade.models.mir import MIR
from recascade.models.mmr import MMR
from recascade.models.nar4rec import NAR4Rec
from recascade.models.prm import PRM
from recascade.models.seq2slate import Seq2Slate
from recascade.models.set_rank import SetRank
from recascade.training.after_fit import on_accelerator, write_facts
from recascade.training.fit import fit
from recascade.training.reranking import (
    Objective,
    Prefix,
    RerankingModule,
    ScoreLoss,
    score_objective,
    slot_objective,
)

Rule = TypeVar("Rule", bound=Reranker)


def fit_initial_order(experiment: RerankingExperiment) -> InitialOrder:
    """Nothing to learn."""
    return InitialOrder()


def fit_mmr(experiment: RerankingExperiment) -> MMR:
    """Choose λ on the validation lists."""
    settings: reranking_config.MMRConfig = experiment.config
    return _best_rule([MMR(value) for value in sorted(settings.trade_offs, reverse=True)], experiment)


def fit_dpp(experiment: RerankingExperiment) -> DPP:
    """Choose the weight on the validation lists."""
    settings: reranking_config.DPPConfig = experiment.config
    return _best_rule([DPP(value) for value in sorted(settings.weights, reverse=True)], experiment)


def fit_dlcm(experiment: RerankingExperiment) -> ScoringReranker:
    """Train DLCM."""
    settings: reranking_config.DLCMConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = DLCM(experiment.lists.schema, **_common(settings))
    return _train_scorer(model, settings.loss, experiment)


def fit_prm(experiment: RerankingExperiment) -> ScoringReranker:
    """Train PRM."""
    settings: reranking_config.PRMConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = PRM(experiment.lists.schema, blocks=settings.blocks, heads=settings.heads, **_common(settings))
    return _train_scorer(model, settings.loss, experiment)


def fit_set_rank(experiment: RerankingExperiment) -> ScoringReranker:
    """Train SetRank."""
    settings: reranking_config.SetRankConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = SetRank(
        experiment.lists.schema,
        blocks=settings.blocks,
        heads=settings.heads,
        inducing=settings.inducing,
        **_common(settings),
    )
    return _train_scorer(model, settings.loss, experiment)


def fit_mir(experiment: RerankingExperiment) -> ScoringReranker:
    """Train MIR."""
    settings: reranking_config.MIRConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = MIR(
        experiment.lists.schema,
        dimension=settings.dimension,
        heads=settings.heads,
        hidden=tuple(settings.hidden),
        dropout=settings.dropout,
        embedding_dimension=settings.embedding_dimension,
        item_identity=settings.item_identity,
    )
    return _train_scorer(model, settings.loss, experiment)


def fit_seq2slate(experiment: RerankingExperiment) -> GeneratingReranker:
    """Train Seq2Slate."""
    settings: reranking_config.Seq2SlateConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = Seq2Slate(experiment.lists.schema, **_common(settings))
    return _train_generator(model, cast(Prefix, settings.prefix), 0.0, experiment)


def fit_nar4rec(experiment: RerankingExperiment) -> GeneratingReranker:
    """Train the generator of all slots, which read no prefix: they learn where clicked candidates would stand."""
    settings: reranking_config.NAR4RecConfig = experiment.config
    torch.manual_seed(experiment.seed)
    model = NAR4Rec(experiment.lists.schema, blocks=settings.blocks, heads=settings.heads, **_common(settings))
    return _train_generator(model, "gold", settings.unlikelihood, experiment)


def _common(settings: reranking_config.ListModelConfig) -> dict[str, Any]:
    return {
        "dimension": settings.dimension,
        "dropout": settings.dropout,
        "embedding_dimension": settings.embedding_dimension,
        "user": cast(UserInput, settings.user),
        "item_identity": settings.item_identity,
    }


def _best_rule(rules: Sequence[Rule], experiment: RerankingExperiment) -> Rule:
    """The rule with the greatest monitored metric on the validation lists, the first of equal ones."""
    monitor = experiment.trainer.monitor
    _, cutoff = parse_list_metric(monitor)
    settings = ListEvaluationConfig(cutoffs=[cutoff], metrics=[monitor.partition("@")[0]])
    values = [evaluate_lists(rule, experiment.lists, "validation", settings).summary[monitor] for rule in rules]
    return rules[values.index(max(values))]


def _train_scorer(model: nn.Module, loss: str, experiment: RerankingExperiment) -> ScoringReranker:
    reranker = ScoringReranker(model)
    _train(model, score_objective(cast(ScoringModel, model), cast(ScoreLoss, loss)), reranker, experiment)
    return reranker


def _train_generator(
    model: nn.Module, prefix: Prefix, unlikelihood: float, experiment: RerankingExperiment
) -> GeneratingReranker:
    reranker = GeneratingReranker(model)
    _train(model, slot_objective(cast(SlotModel, model), prefix, unlikelihood), reranker, experiment)
    return reranker


def _train(model: nn.Module, objective: Objective, reranker: Reranker, experiment: RerankingExperiment) -> None:
    """Train, and leave the facts of the training in the run directory."""
    module = RerankingModule(model, objective, reranker, experiment.trainer)
    batches = RerankingData(experiment.lists, experiment.trainer, seed=experiment.seed)
    result = fit(module, batches, experiment.trainer, experiment.directory, experiment.seed)
    write_facts(experiment.directory, model, [result])
    on_accelerator(model, experiment.trainer)
