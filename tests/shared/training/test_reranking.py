from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_lists import small_lists

from recascade.baselines import reranking_method
from recascade.contracts.method import FIT_FILE, Method, RerankingExperiment
from recascade.data.reranking_lists import RerankingLists
from recascade.errors import ConfigurationError
from recascade.evaluation.evaluate_lists import evaluate_lists
from recascade.evaluation.list_config import ListEvaluationConfig
from recascade.files import read_json
from recascade.training.config import TrainerConfig

TRAINED = [
    reranking_method.DLCM,
    reranking_method.PRM,
    reranking_method.SET_RANK,
    reranking_method.MIR,
    reranking_method.SEQ2SLATE,
    reranking_method.NAR4REC,
]
QUICK = TrainerConfig(max_epochs=12, learning_rate=1e-2, batch_sequences=16, progress=False, tensorboard=False)


def experiment(method: Method, lists: RerankingLists, folder: Path, trainer: TrainerConfig = QUICK, **settings):
    config = replace(method.config(), **settings)
    return RerankingExperiment(config, trainer, lists, 0, folder)


def ndcg(reranker, lists: RerankingLists, part: str) -> float:
    found = evaluate_lists(reranker, lists, part, ListEvaluationConfig(cutoffs=[5], metrics=["ndcg"]))
    clicked = found.per_list["targets"] > 0
    return found.per_list.filter(clicked)["ndcg@5"].mean()


@pytest.mark.parametrize("method", TRAINED, ids=lambda method: method.name)
def test_every_model_learns_what_the_labels_follow(method: Method, tmp_path: Path) -> None:
    lists = small_lists(200)
    reranker = method.run_on_lists(experiment(method, lists, tmp_path, dimension=16))
    initial = reranking_method.INITIAL_ORDER.run_on_lists(experiment(reranking_method.INITIAL_ORDER, lists, tmp_path))
    assert ndcg(reranker, lists, "train") > 0.95
    assert ndcg(reranker, lists, "test") > ndcg(initial, lists, "test") + 0.1
    facts = read_json(tmp_path / FIT_FILE)
    assert facts["parameters"] > 0 and 1 <= facts["best_epoch"] <= 12


@pytest.mark.parametrize("method", TRAINED, ids=lambda method: method.name)
def test_labels_of_test_and_validation_lists_are_not_learned_from(method: Method, tmp_path: Path) -> None:
    lists = small_lists(60)
    held_out = np.repeat(lists.parts > 0, lists.lengths)
    turned = replace(lists, labels=np.where(held_out, 1 - lists.labels, lists.labels))
    unchecked = replace(QUICK, max_epochs=2, validate_every=0, patience=0)
    orders = []
    for number, each in enumerate((lists, turned)):
        reranker = method.run_on_lists(experiment(method, each, tmp_path / str(number), unchecked, dimension=8))
        orders.append(reranker.rerank(lists.batch(np.arange(60)), 8))
    assert torch.equal(*orders)


def test_the_same_seed_gives_the_same_orders(tmp_path: Path) -> None:
    lists = small_lists(60)
    trainer = replace(QUICK, max_epochs=2)
    method = reranking_method.PRM
    first, second = (
        method.run_on_lists(experiment(method, lists, tmp_path / name, trainer)).scores(lists.batch(np.arange(60)))
        for name in ("one", "two")
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("clicked", ["all", "none"])
def test_rules_choose_on_validation_and_survive_lists_that_say_nothing(clicked: str, tmp_path: Path) -> None:
    lists = small_lists(60, clicked=clicked)
    mmr = reranking_method.MMR.run_on_lists(experiment(reranking_method.MMR, lists, tmp_path))
    dpp = reranking_method.DPP.run_on_lists(experiment(reranking_method.DPP, lists, tmp_path))
    # Nothing tells the settings apart, so relevance alone is kept.
    assert mmr.trade_off == 1.0 and dpp.weight == 50.0


def test_mmr_takes_the_setting_that_is_best_on_validation(tmp_path: Path) -> None:
    lists = small_lists(200)
    # Here the earlier stage has it backwards, so that whatever departs from it most is best.
    turned = replace(lists, scores=-lists.labels)
    settings = {"trade_offs": [0.0, 0.5, 1.0]}
    assert (
        reranking_method.MMR.run_on_lists(experiment(reranking_method.MMR, turned, tmp_path, **settings)).trade_off == 0
    )
    right = replace(lists, scores=lists.labels)
    assert (
        reranking_method.MMR.run_on_lists(experiment(reranking_method.MMR, right, tmp_path, **settings)).trade_off == 1
    )


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        (reranking_method.PRM, {"heads": 3}, "multiple of the heads"),
        (reranking_method.PRM, {"loss": "listwise"}, "listwise_softmax"),
        (reranking_method.DLCM, {"user": "concat"}, "concatenated"),
        (reranking_method.SET_RANK, {"inducing": -1}, "at least 0"),
        (reranking_method.MIR, {"dropout": 1.0}, "below 1"),
        (reranking_method.SEQ2SLATE, {"prefix": "golden"}, "gold"),
        (reranking_method.NAR4REC, {"unlikelihood": -1.0}, "at least 0"),
        (reranking_method.MMR, {"trade_offs": [2.0]}, "from 0"),
        (reranking_method.DPP, {"weights": []}, "at least 0"),
    ],
)
def test_impossible_settings_are_refused(method: Method, settings: dict, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        replace(method.config(), **settings).check()


def test_every_variant_and_axis_is_a_setting() -> None:
    for method in (*TRAINED, reranking_method.MMR, reranking_method.DPP, reranking_method.INITIAL_ORDER):
        for settings in method.variants.values():
            replace(method.config(), **settings).check() if settings else None
        for axis, values in method.axes.items():
            for value in values:
                replace(method.config(), **{axis: value}).check()
