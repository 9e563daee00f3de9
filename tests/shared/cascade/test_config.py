from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from recascade.bench.ablation import ablation_configs
from recascade.bench.config import as_dictionary, compose
from recascade.cascade.config import CascadeConfig
from recascade.cascade.method import METHOD
from recascade.errors import ConfigurationError
from recascade.settings import flatten


def made(**values: Any) -> CascadeConfig:
    config: CascadeConfig = compose(
        METHOD, data="log", overrides={f"model.{key}": value for key, value in values.items()}
    ).model
    return config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"ranker": "popularity"},
            r"model.ranker is 'popularity', which serves retrieval, not ranking; methods .*hstu",
        ),
        ({"retriever": "none"}, "somebody must find the candidates"),
        ({"retriever": "sasrek"}, r"There is no method 'sasrek'. Did you mean 'sasrec'\?"),
        ({"retriever": "sasrec/fast"}, "no variant 'fast'"),
        ({"ranker": "hstu", "ranker_settings": ["dimensionn=3"]}, "no configuration key 'model.dimensionn'"),
        ({"ranker": "hstu", "ranker_settings": ["split.ties=file"]}, "holds for the whole cascade"),
        ({"ranker_settings": ["dimension=3"]}, "model.ranker is none"),
        ({"retrieved": 20, "reranked": 30, "reranker": "mmr"}, "more than the 20 candidates"),
        ({"held_share": 0.95}, "model.held_share is 0.95"),
        ({"retriever": "cascade"}, "serves cascade, not retrieval"),
    ],
)
def test_a_cascade_that_cannot_work_is_refused_with_the_reason(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        made(**values)


def test_without_a_re_ranker_its_number_of_candidates_means_nothing() -> None:
    assert made(retrieved=20).reranked == 30


def test_a_grid_with_one_impossible_cell_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match=r"model\.ranker is 'item-knn'"):
        ablation_configs("cascade", ["ranker=none,item-knn"], "log", "default", 1, one_factor=False)


def test_the_metric_that_chooses_reaches_rules_and_must_fit_both_halves() -> None:
    """A retrieval metric failed at the re-ranker, when everything before it was trained."""
    overrides = {"model.retriever": "sasrec", "model.reranker": "mmr"}
    config = compose(METHOD, data="log", overrides={**overrides, "trainer.monitor": "recall@5"})
    assert [member.config(asdict(config.trainer)).trainer.monitor for member in config.model.members] == 2 * [
        "recall@5"
    ]
    for monitor, slot in (("mrr@10", "reranker"), ("clicks@5", "retriever")):
        with pytest.raises(ConfigurationError, match=f"model.{slot} is not chosen by"):
            compose(METHOD, data="log", overrides={**overrides, "trainer.monitor": monitor})
    own = {"trainer.monitor": "mrr@10", "model.reranker_settings": ["trainer.monitor=clicks@5"]}
    compose(METHOD, data="log", overrides={**overrides, **own})


def test_stages_get_the_common_trainer_and_their_own_settings_before_it() -> None:
    config = made(
        retriever="sasrec/binary-cross-entropy",
        retriever_settings=["dimension=8", "trainer.max_epochs=3"],
        ranker="hstu",
    )
    retriever, ranker = config.members
    assert (retriever.label, ranker.label) == ("sasrec/binary-cross-entropy", "hstu")
    settings = retriever.config({"max_epochs": 9, "learning_rate": 0.1}, seed=4)
    assert (settings.trainer.max_epochs, settings.trainer.learning_rate, settings.seed) == (3, 0.1, 4)
    assert (settings.model.dimension, settings.model.loss.name) == (8, "binary_cross_entropy")
    assert ranker.config({"max_epochs": 9}).trainer.max_epochs == 9


def test_the_configuration_survives_being_written_down() -> None:
    config = compose(
        METHOD, data="log", overrides={"model.ranker": "hstu", "model.ranker_settings": ["dimension=8", "heads=2"]}
    )
    sections = {name: value for name, value in as_dictionary(config).items() if isinstance(value, dict)}
    assert compose(METHOD, data="log", overrides=flatten(sections)) == config
