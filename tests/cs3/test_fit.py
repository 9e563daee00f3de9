"""CS3 behind the benchmark command: batches in the order of time, a fit that resumes, lists of the whole catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recascade.bench.config import compose
from recascade.bench.registry import find_method
from recascade.contracts.method import Experiment
from recascade.contracts.retriever import Retriever
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade_cs3.checkpoints import latest_checkpoint
from recascade_cs3.config import CS3Config
from recascade_cs3.fit import training_batches
from recascade_cs3.method import METHOD, VARIANTS

SMALL = {
    "model.batch": 64,
    "model.backbone.embedding_dimension": 8,
    "model.backbone.hidden": [16],
    "model.backbone.dimension": 8,
    "model.ranker.width": 8,
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("log")
    dataset = markov_log(folder / "data", users=80, items=40, features=True, seed=1)
    return make_split(dataset, SplitConfig(), folder / "split")


@pytest.fixture(scope="module")
def data(split: Split) -> EncodedSplit:
    return encode(split)


def experiment(data: EncodedSplit, split: Split, directory: Path, **overrides: Any) -> Experiment:
    directory.mkdir(exist_ok=True)
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    run = compose(METHOD, data="synthetic", overrides=SMALL | chosen)
    return Experiment(run.model, run.trainer, data, split, seed=0, directory=directory)


def test_the_method_is_registered_with_all_combinations() -> None:
    method = find_method("cs3")
    switches = set()
    for overrides in method.variants.values():
        config = compose(
            method, data="any", variant="default", overrides={f"model.{k}": v for k, v in overrides.items()}
        )
        switches.add((config.model.cas.enabled, config.model.cts.enabled, config.model.cms.enabled))
    assert len(switches) == 8
    for variant in VARIANTS:
        compose(method, data="any", variant=variant)


def test_batches_are_the_training_events_in_order_with_impressions(data: EncodedSplit) -> None:
    config = CS3Config(batch=64, negatives=2)
    batches = list(training_batches(data, config, seed=0))
    assert all(len(batch) == 64 for batch in batches[:-1])
    assert [batch.offset for batch in batches[1:]] == [batch.next_offset for batch in batches[:-1]]
    times = np.concatenate([batch.timestamps for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    users = np.concatenate([batch.users for batch in batches])
    items = np.concatenate([batch.items for batch in batches])
    assert (np.diff(times) >= 0).all()
    assert 1.8 * labels.sum() < (labels == 0).sum() <= 2 * labels.sum()
    training = [
        (user, int(data.events.items[place]), int(data.events.timestamps[place]))
        for user, (start, end) in enumerate(zip(data.events.offsets[:-1], data.train_ends, strict=True))
        for place in range(start, end)
    ]
    first: dict[int, int] = {}
    for _, item, time in training:
        first[item] = min(time, first.get(item, time))
    # Neither a positive nor an impression of an item before its first event has passed.
    assert all(first[int(item)] < time for item, time in zip(items, times, strict=True))
    positives = zip(users[labels > 0].tolist(), items[labels > 0].tolist(), times[labels > 0].tolist(), strict=True)
    assert sorted(positives) == sorted(event for event in training if event[2] > first[event[1]])


def test_without_impressions_all_events_are_learnt(data: EncodedSplit) -> None:
    batches = training_batches(data, CS3Config(batch=64, negatives=0, loss="sampled_softmax"), seed=0)
    assert sum(len(batch) for batch in batches) == data.train_lengths.sum()


def test_a_fit_gives_lists_of_the_whole_catalogue_and_beats_chance(
    data: EncodedSplit, split: Split, tmp_path: Path
) -> None:
    retriever = METHOD.run(
        experiment(data, split, tmp_path / "run", model__passes=5, model__tables__reset_each_pass=True)
    )
    assert isinstance(retriever, Retriever)
    result = evaluate(retriever, data, "test", EvaluationConfig(cutoffs=[10], metrics=["hit_rate"]))
    assert result.lists.shape[1] >= 10
    assert result.summary["hit_rate@10"] > 0.3  # 10 of 40 items at random give a quarter
    assert (tmp_path / "run" / "fit.json").exists()


def test_int_tower_is_scored_head_by_head(data: EncodedSplit, split: Split, tmp_path: Path) -> None:
    retriever = METHOD.run(experiment(data, split, tmp_path / "run", model__backbone__name="int_tower"))
    result = evaluate(retriever, data, "test", EvaluationConfig(cutoffs=[10], metrics=["hit_rate"]))
    assert np.isfinite(result.summary["hit_rate@10"])


def test_a_fit_goes_on_from_its_checkpoint(
    data: EncodedSplit, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recascade_cs3 import fit as fit_module

    monkeypatch.setattr(fit_module, "CHECKPOINT_EVENTS", 512)
    whole = METHOD.run(experiment(data, split, tmp_path / "whole"))

    class Stopped(Exception):
        pass

    original = fit_module.OnlineLearner.tick

    def stop_late(learner: Any, batch: Any) -> Any:
        if batch.offset > 1_500:
            raise Stopped
        return original(learner, batch)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module.OnlineLearner, "tick", stop_late)
        with pytest.raises(Stopped):
            METHOD.run(experiment(data, split, tmp_path / "cut"))
    checkpoint = latest_checkpoint(tmp_path / "cut" / "online")
    assert checkpoint is not None
    assert 0 < int(checkpoint.name) <= 1_536
    resumed = METHOD.run(experiment(data, split, tmp_path / "cut"))
    for name, tensor in whole.learner.tables.tensors().items():  # type: ignore[attr-defined]
        assert torch.equal(tensor, resumed.learner.tables.tensors()[name]), name  # type: ignore[attr-defined]


def test_sampled_softmax_learns_from_positives_alone(data: EncodedSplit, split: Split, tmp_path: Path) -> None:
    overrides = {"model__loss": "sampled_softmax", "model__negatives": 0}
    retriever = METHOD.run(experiment(data, split, tmp_path / "run", **overrides))
    evaluate(retriever, data, "test", EvaluationConfig(cutoffs=[10], metrics=["hit_rate"]))
    with pytest.raises(ConfigurationError, match=r"model\.negatives is 0"):
        compose(METHOD, data="any", overrides={"model.negatives": 0})


def test_events_without_times_are_refused(data: EncodedSplit, split: Split, tmp_path: Path) -> None:
    from dataclasses import replace

    timeless = replace(data, events=replace(data.events, timestamps=np.zeros_like(data.events.timestamps)))
    with pytest.raises(DataError, match="no timestamps"):
        METHOD.run(experiment(timeless, split, tmp_path / "run"))
    at_once = replace(data, events=replace(data.events, timestamps=np.ones_like(data.events.timestamps)))
    with pytest.raises(DataError, match="No item of the training events comes again"):
        METHOD.run(experiment(at_once, split, tmp_path / "run"))


def test_matrix_factorisation_takes_no_mechanism() -> None:
    with pytest.raises(ConfigurationError, match="no layers for CAS"):
        compose(METHOD, data="any", overrides={"model.backbone.name": "factorisation"})
    compose(METHOD, data="any", variant="factorisation")
