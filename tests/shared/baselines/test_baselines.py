from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from recascade.baselines import method as registered
from recascade.bench.config import compose
from recascade.bench.registry import installed_methods
from recascade.contracts.method import FIT_FILE, Experiment, Method
from recascade.contracts.retriever import Retriever
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.evaluation.requests import requests

METHODS = [value for value in vars(registered).values() if isinstance(value, Method)]
TRAINED = [method for method in METHODS if method.trained]
SMALL = {
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "model.dimension": 8,
    "model.max_length": 10,
}
# Forty items do not fill codebooks of 256.
SMALL_IDS = {
    "model.tokenizer.sizes": [8, 4],
    "model.tokenizer.conflicts.digit_size": 40,
    "model.beams": [20],
    "model.heads": 2,
    "model.head_width": None,
    "model.hidden": 16,
}


@pytest.fixture(scope="module", params=["shuffle", "group"])
def split(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("split")
    basket = 2.0 if request.param == "group" else 1.0
    log = markov_log(
        folder / "log", users=80, items=40, mean_length=12.0, follow=0.9, basket_size=basket, features=True, seed=2
    )
    return make_split(log, SplitConfig(ties=request.param), folder / "split")


@pytest.fixture(scope="module")
def data(split: Split) -> EncodedSplit:
    return encode(split)


def fit(
    method: Method, split: Split, data: EncodedSplit, directory: Path, *, seed: int = 1, **overrides: object
) -> Retriever:
    generative = any(field.name == "tokenizer" for field in dataclasses.fields(method.config))
    settings = {**(SMALL if method.trained else {}), **(SMALL_IDS if generative else {}), **overrides}
    config = compose(method, data="log", overrides=settings)
    directory.mkdir(exist_ok=True)
    return method.run(Experiment(config.model, config.trainer, data, split, seed=seed, directory=directory))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_is_registered_under_its_name(method: Method) -> None:
    assert installed_methods()[method.name] is method


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_field_of_a_configuration_is_documented(method: Method) -> None:
    assert method.config.__doc__ is not None
    for field in dataclasses.fields(method.config):
        assert f"{field.name}: " in method.config.__doc__


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_answers_every_user_with_distinct_items(
    method: Method, split: Split, data: EncodedSplit, tmp_path: Path
) -> None:
    retriever = fit(method, split, data, tmp_path)
    assert isinstance(retriever, Retriever)
    evaluation = evaluate(retriever, data, "test", EvaluationConfig())
    assert evaluation.lists.shape == (len(data.test), 20)
    assert all(len(set(items)) == 20 and min(items) >= 0 for items in evaluation.lists.tolist())
    assert 0 < evaluation.summary["recall@20"] <= 1


@pytest.mark.parametrize("method", TRAINED, ids=lambda method: method.name)
def test_one_seed_gives_the_same_model_twice_and_another_seed_another(
    method: Method, split: Split, data: EncodedSplit, tmp_path: Path
) -> None:
    context = requests(data.events, data.test, torch.arange(5).numpy())
    first, second = (fit(method, split, data, tmp_path / name).retrieve(context, 10) for name in ("one", "two"))
    assert torch.equal(first.items, second.items) and torch.equal(first.scores, second.scores)
    other = fit(method, split, data, tmp_path / "other", seed=2).retrieve(context, 10)
    assert not torch.equal(first.scores, other.scores)
    facts = json.loads((tmp_path / "one" / FIT_FILE).read_text())
    assert facts["epochs"] == 2 and facts["parameters"] > 0 and facts["targets_per_second"] > 0


def test_learning_beats_popularity_on_a_log_with_an_order(tmp_path: Path) -> None:
    log = markov_log(tmp_path / "log", users=200, items=40, mean_length=15.0, follow=0.9, seed=3)
    split = make_split(log, SplitConfig(), tmp_path / "split")
    data = encode(split)
    popularity = fit(registered.POPULARITY, split, data, tmp_path / "popularity")
    sasrec = fit(
        registered.SASREC,
        split,
        data,
        tmp_path / "sasrec",
        **{"trainer.max_epochs": 25, "trainer.learning_rate": 0.01, "model.dimension": 16},
    )
    scores = [evaluate(one, data, "test", EvaluationConfig()).summary["ndcg@10"] for one in (popularity, sasrec)]
    assert scores[1] > 1.3 * scores[0]
