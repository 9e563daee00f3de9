"""Cascades trained for real on a small log: stages once each, nothing learnt from what is held out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recascade.bench.config import compose
from recascade.bench.runner import LocalRunner
from recascade.bench.suite import configs_of
from recascade.bench.sweep import compute, lay_out
from recascade.cascade.fit import FittedCascade, fit_stages
from recascade.cascade.method import METHOD
from recascade.cascade.open_cascade import experiment_of, open_cascade
from recascade.cascade.train import train
from recascade.contracts.method import Experiment
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.reranking_lists import RerankingLists
from recascade.data.split import cached_split
from recascade.data.synthetic import markov_log
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.requests import requests
from recascade.settings import parse_overrides

QUICK = {
    "trainer.max_epochs": 1,
    "trainer.accelerator": "cpu",
    "trainer.tensorboard": False,
    "trainer.progress": False,
    "model.ranker": "sasrec",
    "model.ranker_settings": ["dimension=8", "max_length=10"],
    "model.retrieved": 20,
    "model.reranked": 8,
}
RULE = {**QUICK, "model.reranker": "mmr"}


def experiment(log: Path, directory: Path, settings: dict[str, Any]) -> Experiment:
    config = compose(METHOD, data=str(log), overrides=settings)
    split = cached_split(Dataset.open(log), config.split)
    directory.mkdir(exist_ok=True)
    return experiment_of(config, encode(split), split, directory, None)


def lists_of(fitted: FittedCascade, work: Experiment) -> np.ndarray:
    rows = np.arange(len(work.data.test))
    return fitted.cascade.retrieve(requests(work.data.events, work.data.test, rows), 10).items.numpy()


def test_a_second_fit_trains_nothing_and_recommends_the_same(home: Path, log: Path, tmp_path: Path) -> None:
    work = experiment(log, tmp_path / "out", RULE)
    first = lists_of(fit_stages(work), work)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("stage.json")}
    assert len(done) == 7, "two retrievers, two rankers, the ranker's weight, the lists, the re-ranker"
    assert np.array_equal(lists_of(fit_stages(work), work), first)
    assert done == {path: path.stat().st_mtime_ns for path in done}
    assert files.keys() == set((tmp_path / "out").rglob("*.safetensors"))


def test_a_changed_stage_is_trained_anew_and_the_others_are_kept(home: Path, log: Path, tmp_path: Path) -> None:
    fit_stages(experiment(log, tmp_path / "out", RULE))
    before = {path.parent.name for path in (tmp_path / "out").rglob("stage.json")}
    fit_stages(experiment(log, tmp_path / "out", {**RULE, "model.reranker": "initial-order"}))
    new = {path.parent.name for path in (tmp_path / "out").rglob("stage.json")} - before
    assert [name.rpartition("-")[0] for name in new] == ["initial-order"]


def test_a_stage_of_a_changed_catalogue_is_trained_anew(home: Path, tmp_path: Path) -> None:
    """The split and its fingerprint stay the same: they know nothing of the catalogue's columns."""
    described = tmp_path / "described"
    markov_log(described, users=60, items=30, mean_length=12.0, features=True, seed=1)
    settings = {"model.retriever": "popularity"}
    fit_stages(experiment(described, tmp_path / "out", settings))
    items = pl.read_parquet(described / "items.parquet")
    items.with_columns(text=pl.lit("other")).write_parquet(described / "items.parquet")
    fit_stages(experiment(described, tmp_path / "out", settings))
    assert len(list((tmp_path / "out").rglob("stage.json"))) == 2


def test_no_stage_learns_from_the_outcomes_of_validation_and_test(home: Path, log: Path, tmp_path: Path) -> None:
    """Every held-out target replaced by another item: the same lists to learn from, the same weights and orders."""
    settings = {**RULE, "trainer.validate_every": 0, "model.ranker_weight": 0.7}
    work = experiment(log, tmp_path / "one", settings)
    data = work.data
    random = np.random.default_rng(0)

    def disturbed(part: Any) -> Any:
        items = random.integers(0, len(data.items), len(part.target_items)).astype(np.int32)
        return replace(part, target_items=items)

    # The validation events stand in the histories of the test requests; no fit may read them there either.
    events = replace(data.events, items=np.asarray(data.events.items).copy())
    for user in range(len(data.users)):
        held = slice(int(data.train_ends[user]), int(events.offsets[user + 1]))
        events.items[held] = random.integers(0, len(data.items), held.stop - held.start)
    other = replace(data, events=events, validation=disturbed(data.validation), test=disturbed(data.test))
    first = fit_stages(work)
    second = fit_stages(replace(work, data=other, directory=_new(tmp_path / "two")))
    assert np.array_equal(lists_of(first, work), lists_of(second, work))
    learned = [_lists(tmp_path / name) for name in ("one", "two")]
    for part in ("train", "validation"):
        batches = [lists.batch(lists.rows(part)) for lists in learned]
        for name in ("candidate_items", "labels", "history_items", "initial_scores"):
            assert np.array_equal(getattr(batches[0], name), getattr(batches[1], name)), name


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _lists(folder: Path) -> RerankingLists:
    (found,) = (folder / "stages").glob("lists-*")
    return RerankingLists.load(found)


def test_the_weight_of_the_ranker_is_chosen_once_for_all_lists_and_kept(home: Path, log: Path, tmp_path: Path) -> None:
    work = experiment(log, tmp_path / "out", RULE)
    chosen = fit_stages(work).cascade.ranker_weight
    (kept,) = (tmp_path / "out").rglob("ranker-weight-*/stage.json")
    assert json.loads(kept.read_text())["facts"]["ranker_weight"] == chosen
    given = experiment(log, tmp_path / "out", {**RULE, "model.ranker_weight": 0.35})
    before = set((tmp_path / "out").rglob("stage.json"))
    assert fit_stages(given).cascade.ranker_weight == 0.35
    new = {path.parent.name.rpartition("-")[0] for path in set((tmp_path / "out").rglob("stage.json")) - before}
    assert new == {"lists", "mmr"}, "lists in another order are other lists"
    for weight in (-0.1, 1.5):
        with pytest.raises(ConfigurationError, match=r"model\.ranker_weight is .* from 0 to 1"):
            compose(METHOD, data=str(log), overrides={**RULE, "model.ranker_weight": weight})
    compose(METHOD, data=str(log), overrides={**RULE, "model.ranker_weight": 0.0})


def test_lists_to_learn_from_hold_no_event_of_the_validation_part(home: Path, log: Path, tmp_path: Path) -> None:
    work = experiment(log, tmp_path / "out", RULE)
    fit_stages(work)
    lists = _lists(tmp_path / "out")
    rows = np.concatenate([lists.rows("train"), lists.rows("validation")])
    trained = work.data.train_lengths
    starts = lists.events.offsets[lists.users[rows]]
    assert np.all(lists.history_ends[rows] - starts < trained[lists.users[rows]])
    assert lists.labels.sum() > 0


def test_validation_events_cannot_be_trained_on(home: Path, log: Path, tmp_path: Path) -> None:
    work = experiment(log, tmp_path / "out", RULE)
    with pytest.raises(ConfigurationError, match=r"trainer\.refit"):
        fit_stages(replace(work, data=work.data.with_validation_trained()))


@pytest.mark.parametrize("setting", ["trainer.devices=2", "trainer.refit=true"])
def test_what_a_cascade_cannot_be_trained_by_is_refused_before_anything_runs(setting: str) -> None:
    """Several processes would wait for each other in a stage's folder; a refit would choose the weight on events that
    both stages were trained on."""
    key, _, _ = setting.partition("=")
    without = {"model.ranker": "sasrec"}
    with pytest.raises(ConfigurationError, match=key):
        compose(METHOD, data="log", overrides={**without, **parse_overrides([setting])})
    with pytest.raises(ConfigurationError, match=key):
        compose(METHOD, data="log", overrides={**without, "model.ranker_settings": [setting]})


def test_a_fit_refuses_what_a_cascade_cannot_be_trained_by(home: Path, log: Path, tmp_path: Path) -> None:
    work = experiment(log, tmp_path / "out", {"model.retriever": "popularity"})
    for change in ({"devices": 2}, {"refit": True}):
        with pytest.raises(ConfigurationError, match="leave"):
            fit_stages(replace(work, trainer=replace(work.trainer, **change)))
    assert not list((tmp_path / "out").rglob("stage.json"))


def test_cells_of_an_ablation_share_their_stages_and_their_costs(home: Path, log: Path, tmp_path: Path) -> None:
    cells = [{}, {"model.reranker": "mmr"}, {"model.reranker": "initial-order"}]
    configs = [config for cell in cells for config in configs_of("cascade", str(log), "default", 1, {**QUICK, **cell})]
    plan = lay_out(configs, tmp_path / "runs", lambda _: None)
    problems: list[str] = []
    compute(plan, LocalRunner(2, threads=1), lambda event: problems.append(event.problem), lambda: None)
    assert [problem for problem in problems if problem] == []
    (shared,) = tmp_path.glob("runs/*/.shared")
    kinds = sorted(path.parent.name.rpartition("-")[0] for path in shared.glob("*/stage.json"))
    assert kinds == ["initial-order", "item-knn", "item-knn", "lists", "mmr", "ranker-weight", "sasrec", "sasrec"]
    costs = [run.result["cost"]["fit_cpu_seconds"] for run in plan.finished_runs if run.result is not None]
    assert costs[0] < min(costs[1:]), "a cell pays for all stages that it needs, whoever trained them"
    opened = open_cascade(plan.runs[1].directory)
    assert [stage.label for stage in opened.fitted.stages] == ["item-knn", "sasrec", "mmr"]


def test_training_into_a_folder_measures_each_stage_and_refuses_another_cascade_there(
    home: Path, log: Path, tmp_path: Path
) -> None:
    config = compose(METHOD, data=str(log), overrides=RULE)
    found = train(config, tmp_path / "out", lambda _: None)
    assert [stage.slot for stage in found] == ["retriever", "ranker", "reranker"]
    assert all(0 <= stage.metrics["ndcg@10"] <= 1 for stage in found)
    contents = json.loads((tmp_path / "out" / "cascade.json").read_text())
    assert [stage["label"] for stage in contents["stages"]] == ["item-knn", "sasrec", "mmr"]
    assert open_cascade(tmp_path / "out").fitted.cascade.reranking is not None
    other = compose(METHOD, data=str(log), overrides={**RULE, "model.retrieved": 10})
    with pytest.raises(ConfigurationError, match=r"differs in model\.retrieved"):
        train(other, tmp_path / "out", lambda _: None)
    (tmp_path / "out" / "cascade.json").unlink()
    with pytest.raises(DataError, match="no trained cascade"):
        open_cascade(tmp_path / "out")


def test_a_rule_that_another_metric_chooses_is_another_stage(home: Path, log: Path, tmp_path: Path) -> None:
    settings = {"model.reranker": "mmr", "model.retrieved": 20, "model.reranked": 8}
    for monitor in ("ndcg@10", "clicks@2"):
        fit_stages(experiment(log, tmp_path / "out", {**settings, "trainer.monitor": monitor}))
    assert len(list((tmp_path / "out").rglob("mmr-*/stage.json"))) == 2


@pytest.mark.parametrize("missing", ["item-knn", "lists", "mmr"])
def test_opening_a_cascade_trains_nothing(home: Path, log: Path, tmp_path: Path, missing: str) -> None:
    settings = {"model.reranker": "mmr", "model.retrieved": 20, "model.reranked": 8}
    train(compose(METHOD, data=str(log), overrides=settings), tmp_path / "out", lambda _: None)
    for folder in (tmp_path / "out" / "stages").glob(f"{missing}-*"):
        shutil.rmtree(folder)
    before = set((tmp_path / "out").rglob("*"))
    with pytest.raises(DataError, match=rf"no trained stage {missing}-.* in .*stages; .* copy that folder too"):
        open_cascade(tmp_path / "out")
    assert set((tmp_path / "out").rglob("*")) == before


GENERATORS = {
    "tiger": ["dimension=16", "heads=2", "hidden=16", "encoder_blocks=1", "decoder_blocks=1", "beams=[8]"],
    "gr4ad": ["dimension=16", "heads=2", "hidden=16", "layers=2", "trunk_layers=1", "beams=[8]"],
    "recast": [
        "generator.dimension=16",
        "generator.heads=2",
        "generator.blocks=1",
        "beams=[8]",
        "update.steps=2",
        "rollout.width=8",
    ],
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_cascade_that_generates_its_candidates_opens_as_it_was_trained(name: str, home: Path, tmp_path: Path) -> None:
    described = tmp_path / "described"
    markov_log(described, users=60, items=30, mean_length=12.0, features=True, seed=1)
    sizes = "tokenizer.sizes=[4,4]" if name != "gr4ad" else "tokenizer.sizes=[4,4,4]"
    chosen = [*GENERATORS[name], "tokenizer.content.dimension=4", sizes]
    settings = {"model.retriever": name, "model.retriever_settings": chosen, "model.reranker": "mmr"}
    train(compose(METHOD, data=str(described), overrides={**QUICK, **settings}), tmp_path / "out", lambda _: None)
    opened = open_cascade(tmp_path / "out")
    weights = {path: path.read_bytes() for path in (tmp_path / "out").rglob("weights.safetensors")}
    again = open_cascade(tmp_path / "out")
    assert weights == {path: path.read_bytes() for path in weights}
    asked = requests(opened.data.events, opened.data.test, np.arange(len(opened.data.test)))
    first, second = (each.fitted.cascade.retrieve(asked, 10) for each in (opened, again))
    assert np.array_equal(first.items.numpy(), second.items.numpy())
    assert np.array_equal(first.scores.numpy(), second.scores.numpy())
