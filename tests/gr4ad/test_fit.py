"""GR4AD through its fit: every variant, both stages, what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gr4ad_runs import Prepared, fitted, module_of, prepare
from safetensors.torch import load_file

from recascade.bench.config import compose
from recascade.bench.registry import installed_methods
from recascade.contracts.method import FIT_FILE
from recascade.contracts.retriever import Retriever
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.evaluation.requests import requests
from recascade.models.beam_widths import beam_widths
from recascade.models.popularity import Popularity
from recascade.tokenizers.semantic_ids_file import load_semantic_ids
from recascade.training.config import TrainerConfig
from recascade_gr4ad.config import GR4ADConfig, PreferenceConfig, ValuesConfig
from recascade_gr4ad.lazy_ar import decoding_work
from recascade_gr4ad.method import METHOD, VARIANTS
from recascade_gr4ad.module import GR4ADModule
from recascade_gr4ad.run_folder import PREFERENCE_FOLDER, read_run


def test_it_is_registered() -> None:
    assert installed_methods()["gr4ad"] is METHOD
    assert all(name in installed_methods() for name in METHOD.baselines)


@pytest.mark.parametrize("config", [GR4ADConfig, ValuesConfig, PreferenceConfig])
def test_every_field_is_documented(config: type) -> None:
    assert config.__doc__ is not None
    for field in dataclasses.fields(config):
        assert f"{field.name}: " in config.__doc__


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_answers_every_user_with_distinct_items(prepared: Prepared, tmp_path: Path, variant: str) -> None:
    retriever = fitted(prepared, tmp_path / "run", variant, trainer__max_epochs=1)
    assert isinstance(retriever, Retriever)
    lists = evaluate(retriever, prepared.data, "test", EvaluationConfig()).lists
    assert all(len(set(items)) == 20 and min(items) >= 0 for items in lists.tolist())
    facts = json.loads((tmp_path / "run" / FIT_FILE).read_text())
    assert facts["parameters"] > 0 and facts["fit_cpu_seconds"] > 0
    assert facts["synthetic_values"] is (variant not in ("vanilla", "lazy-ar", "lazy-ar-mtp"))


def test_one_seed_gives_the_same_model_twice(prepared: Prepared, tmp_path: Path) -> None:
    context = requests(prepared.data.events, prepared.data.test, torch.arange(5).numpy())
    first, second = (
        fitted(prepared, tmp_path / name, "unified", trainer__max_epochs=1).retrieve(context, 10)
        for name in ("one", "two")
    )
    assert torch.equal(first.items, second.items) and torch.equal(first.scores, second.scores)


def test_it_learns_the_order_of_the_log(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, users=150)
    popularity = evaluate(Popularity.fit(prepared.data), prepared.data, "test", EvaluationConfig()).summary
    retriever = fitted(
        prepared, tmp_path / "run", "lazy-ar-mtp", trainer__max_epochs=6, model__dimension=16, model__hidden=32
    )
    assert (
        evaluate(retriever, prepared.data, "test", EvaluationConfig()).summary["ndcg@10"] > 1.3 * popularity["ndcg@10"]
    )


def test_baskets_are_learnt_from_too(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, basket_size=2.0, ties="group", prices=True)
    fitted(prepared, tmp_path / "run", "unified", trainer__max_epochs=1)
    run = read_run(tmp_path / "run")
    assert run.source == "column" and run.synthetic


def test_without_its_weight_multi_token_prediction_leaves_the_gradients_alone(
    prepared: Prepared, tmp_path: Path
) -> None:
    gradients = {}
    for name, weight in (("without", 0.0), ("almost without", 1e-12), ("with", 1.0)):
        module, ads, _ = module_of(prepared, tmp_path / name, model__multi_token=weight)
        module.eval()
        module.imitation_loss(ads.training_batch(np.arange(16))).backward()
        gradients[name] = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients["without"], gradients["almost without"])
    assert not torch.allclose(gradients["without"], gradients["with"], atol=1e-4)


def test_weights_of_targets_scale_their_gradients_alone(prepared: Prepared, tmp_path: Path) -> None:
    module, ads, _ = module_of(prepared, tmp_path / "run")
    module.eval()
    batch = ads.training_batch(np.arange(12))
    heavy = dataclasses.replace(batch, weights=3 * batch.weights)
    torch.testing.assert_close(module.imitation_loss(heavy), 3 * module.imitation_loss(batch))
    picked = torch.zeros(12)
    picked[4] = 12.0
    alone = ads.training_batch(np.array([4]))
    torch.testing.assert_close(module.imitation_loss(batch, picked), module.imitation_loss(alone))


def test_an_unknown_value_teaches_the_value_step_nothing(prepared: Prepared, tmp_path: Path) -> None:
    module, ads, _ = module_of(prepared, tmp_path / "run")
    batch = ads.training_batch(np.arange(12))
    unknown = dataclasses.replace(batch, buckets=torch.full_like(batch.buckets, -1))
    module.imitation_loss(unknown).backward()
    grad = module.model.output.table.grad
    assert grad is not None and (grad[-6:] == 0).all() and (grad[:-6] != 0).any()


def test_arms_can_start_from_one_checkpoint(prepared: Prepared, run_folder: Path, tmp_path: Path) -> None:
    start = run_folder / "weights.safetensors"
    ids = run_folder / "semantic_ids.parquet"
    weights = {}
    for name in ("rspo", "s-dpo"):
        overrides = {"model__preference__start": str(start), "model__ids": str(ids)}
        fitted(prepared, tmp_path / name, name, **overrides)
        assert not (tmp_path / name / "weights.safetensors").exists()
        weights[name] = load_file(tmp_path / name / PREFERENCE_FOLDER / "weights.safetensors")
    first = load_file(start)
    moved = [float((weights["rspo"][key] - first[key]).abs().max()) for key in first]
    assert 0 < max(moved) < 0.05
    assert any(not torch.equal(weights["rspo"][key], weights["s-dpo"][key]) for key in first)


def test_a_second_stage_alone_takes_the_ids_of_the_weights_that_it_starts_from(
    prepared: Prepared, run_folder: Path, tmp_path: Path
) -> None:
    start = run_folder / "weights.safetensors"
    fitted(prepared, tmp_path / "run", "rspo", model__preference__start=str(start), model__tokenizer__salt=7)
    mine, its = (load_semantic_ids(folder / "semantic_ids.parquet") for folder in (tmp_path / "run", run_folder))
    assert mine.codes.tolist() == its.codes.tolist()
    shutil.copy(start, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match=r"no semantic_ids\.parquet beside"):
        fitted(prepared, tmp_path / "bare", "rspo", model__preference__start=str(tmp_path / "weights.safetensors"))


def test_a_checkpoint_of_another_shape_or_none_is_refused(prepared: Prepared, run_folder: Path, tmp_path: Path) -> None:
    settings = {"model__preference__start": str(run_folder / "weights.safetensors"), "model__dimension": 16}
    with pytest.raises(ConfigurationError, match="does not hold the weights of this decoder"):
        fitted(prepared, tmp_path / "run", "rspo", **settings)
    with pytest.raises(DataError, match="There is no file"):
        fitted(prepared, tmp_path / "other", "rspo", model__preference__start=str(tmp_path / "none"))


def test_an_interrupted_fit_ends_with_the_same_weights(prepared: Prepared, tmp_path: Path) -> None:
    fitted(prepared, tmp_path / "whole", "rspo", trainer__max_epochs=2)
    fitted(prepared, tmp_path / "parts", "vsl", trainer__max_epochs=1)
    fitted(prepared, tmp_path / "parts", "rspo", trainer__max_epochs=2)
    one, other = (load_file(tmp_path / name / PREFERENCE_FOLDER / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_gamma_reorders_and_zero_does_not(prepared: Prepared, run_folder: Path) -> None:
    run = read_run(run_folder)
    context = requests(prepared.data.events, prepared.data.test, np.arange(20))
    found = {}
    for gamma in (0.0, 5.0):
        settings = dataclasses.replace(run.settings, values=dataclasses.replace(run.settings.values, gamma=gamma))
        module = GR4ADModule(run.model, settings, prepared.data, TrainerConfig(), (20, 20, 20), buckets=run.buckets)
        found[gamma] = module.retriever().retrieve(context, 10)
    plain = GR4ADModule(run.model, run.settings, prepared.data, TrainerConfig(), (20, 20, 20), buckets=None).retriever()
    assert torch.equal(plain.retrieve(context, 10).items, found[0.0].items)
    assert not torch.equal(found[0.0].items, found[5.0].items)


def test_progressive_beams_keep_the_results_for_a_fraction_of_the_work(prepared: Prepared, run_folder: Path) -> None:
    run = read_run(run_folder)
    context = requests(prepared.data.events, prepared.data.test, np.arange(len(prepared.data.test)))
    lists = {}
    for widths in ((24, 24, 24), (6, 12, 24)):
        module = GR4ADModule(run.model, run.settings, prepared.data, TrainerConfig(), widths, buckets=None)
        lists[widths] = module.retriever().retrieve(context, 10).items.tolist()
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*lists.values(), strict=True)]
    assert sum(shared) / len(shared) >= 0.95
    assert decoding_work(6, 0, 3, (128, 256, 512)) / decoding_work(6, 0, 3, (512, 512, 512)) == pytest.approx(
        0.376, abs=0.005
    )
    assert decoding_work(6, 0, 4, (128, 256, 512)) / decoding_work(6, 0, 4, (512, 512, 512)) == pytest.approx(
        0.584, abs=0.005
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"trunk_layers": 6}, "at least one layer must see the code before"),
        ({"fusion": "gates"}, "Did you mean 'gated'"),
        ({"beams": [0]}, "at least 1"),
        ({"context_sets": 9}, "more than model.layers"),
        ({"dimension": 30}, "multiple of the heads"),
        ({"dropout": 1.0}, "below 1"),
        ({"values.source": "none"}, "model.values.buckets to 0"),
        ({"values.source": "none", "values.buckets": 0, "preference.objective": "rspo"}, "ranks by value"),
        ({"values.buckets": 0, "values.gamma": 0.5}, "model.values.buckets is 0"),
        ({"values.buckets": 1}, "says nothing"),
        ({"preference.objective": "sdpo"}, "Did you mean 's-dpo'"),
        ({"preference.exploration": 1.0}, "below 1"),
        ({"preference.temperature": 0.0}, "above 0"),
        ({"preferense.beta": 1.0}, "preference.beta"),
    ],
)
def test_impossible_settings_are_sentences(overrides: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        compose(METHOD, data="log", overrides={f"model.{key}": value for key, value in overrides.items()})


def test_beams_must_fit_the_ids() -> None:
    with pytest.raises(ConfigurationError, match="2 widths, but the ids have 3 codes"):
        beam_widths(GR4ADConfig(beams=[5, 5]).beams, 3)
    assert beam_widths(GR4ADConfig(beams=[7]).beams, 3) == (7, 7, 7)
