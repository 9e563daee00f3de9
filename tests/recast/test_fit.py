"""ReCast behind the benchmark command: two stages, resumed fits, controls, guards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from recascade.bench.config import compose
from recascade.bench.registry import find_method
from recascade.contracts.method import Experiment
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.data.synthetic import markov_log
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.training.generative import GenerativeModule
from recascade_recast import guard
from recascade_recast.guard import complaints
from recascade_recast.guard_config import GuardConfig
from recascade_recast.method import METHOD, VARIANTS
from recascade_recast.module import ReCastModule
from recascade_recast.users import reinforced_users

SMALL: dict[str, Any] = {
    "trainer.max_epochs": 3,
    "trainer.batch_sequences": 32,
    "trainer.log_every": 2,
    "trainer.tensorboard": False,
    "trainer.accelerator": "cpu",
    "trainer.progress": False,
    "model.generator.dimension": 16,
    "model.generator.heads": 2,
    "model.generator.hidden": 32,
    "model.generator.blocks": 1,
    "model.generator.encoder_blocks": 1,
    "model.tokenizer.sizes": [8, 4],
    "model.tokenizer.conflicts.digit_size": 40,
    "model.beams": [8],
    "model.rollout.width": 6,
    "model.rollout.prompts": 16,
    "model.update.steps": 6,
    "model.update.learning_rate": 0.001,
    "model.guard.every": 3,
    "model.guard.users": 20,
    "model.guard.cutoff": 5,
    "model.guard.most_divergence": 1000.0,
    "model.guard.least_share": 0.0,
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("log")
    dataset = markov_log(folder / "data", users=80, items=40, features=True, seed=1)
    return make_split(dataset, SplitConfig(), folder / "split")


@pytest.fixture(scope="module")
def data(split: Split) -> EncodedSplit:
    return encode(split)


def experiment(data: EncodedSplit, split: Split, directory: Path, variant: str = "default", **overrides: Any) -> Any:
    directory.mkdir(exist_ok=True)
    chosen = {key.replace("__", "."): value for key, value in overrides.items()}
    run = compose(METHOD, data="synthetic", variant=variant, overrides=SMALL | chosen)
    return Experiment(run.model, run.trainer, data, split, seed=0, directory=directory)


@pytest.fixture(scope="module")
def supervised(data: EncodedSplit, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a supervised run with one seed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sft")
    METHOD.run(experiment(data, split, folder / "seed-0", "sft"))
    return folder


def weights(retriever: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in retriever.generator.state_dict().items()}


def test_the_method_is_registered_with_its_controls() -> None:
    method = find_method("recast")
    assert {"grpo", "repair-only", "contrast-only", "recast", "random-negative", "always-gt", "dapo-filter"} <= set(
        VARIANTS
    )
    for variant in VARIANTS:
        compose(method, data="any", variant=variant)
    for key, values in method.axes.items():
        for value in values:
            compose(method, data="any", overrides={f"model.{key}": value})


def test_supervised_training_sees_no_event_of_those_to_be_reinforced(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path
) -> None:
    """Changed events of reinforced users leave the supervised weights as they are."""
    chosen = reinforced_users(len(data.users), 0.5, 0)
    assert chosen.sum() == round(len(data.users) / 2)
    items = np.asarray(data.events.items).copy()
    theirs = np.repeat(chosen, data.events.lengths)
    items[theirs] = np.roll(items[theirs], 3)
    changed = replace(data, events=replace(data.events, items=items))
    ids = supervised / "seed-0" / "semantic_ids.parquet"
    common = {"model__ids": str(ids), "trainer__patience": 0, "trainer__validate_every": 0}
    METHOD.run(experiment(changed, split, tmp_path / "run", "sft", **common))
    METHOD.run(experiment(data, split, tmp_path / "same", "sft", **common))
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("run", "same"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("variant", ("default", "grpo", "contrast-only", "gspo", "sft-continuation"))
def test_every_kind_of_second_stage_changes_the_model_and_serves_lists(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path, variant: str
) -> None:
    given = experiment(data, split, tmp_path / "run", variant, model__start=str(supervised))
    retriever = METHOD.run(given)
    before, after = load_file(supervised / "seed-0" / "weights.safetensors"), weights(retriever)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    result = evaluate(retriever, data, "test", EvaluationConfig(cutoffs=[10], metrics=["hit_rate"]))
    assert np.isfinite(result.summary["hit_rate@10"])
    facts = json.loads((tmp_path / "run" / "fit.json").read_text())
    curves = pl.read_csv(tmp_path / "run" / "reinforced" / "curves.csv")
    assert curves["step"].max() == 6
    if variant == "sft-continuation":
        assert "health" not in facts
        return
    generated, kept = (facts["reinforcement"][f"{kind}_answers"] for kind in ("generated", "actor"))
    assert generated <= 6 * 16 * 6
    if variant == "default":
        assert kept == 2 * generated / 6
    elif variant in ("grpo", "gspo"):
        assert kept == generated
    assert facts["health"]["supervised"] >= 0 and facts["health"]["stopped_at_step"] == 0
    names = set(curves["name"])
    assert {"all_zero_rate", "entropy", "gradient_norm", "health/hit_rate", "generated_answers"} <= names


def test_continuing_sees_the_prompts_that_reinforcement_sees(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[type, list[torch.Tensor]] = {}
    for kind in (GenerativeModule, ReCastModule):
        original = kind.training_step

        def spy(self: Any, batch: Any, batch_idx: int, original: Any = original, kind: Any = kind) -> Any:
            seen.setdefault(kind, []).append(batch.targets)
            return original(self, batch, batch_idx)

        monkeypatch.setattr(kind, "training_step", spy)
    for variant in ("default", "sft-continuation"):
        given = experiment(data, split, tmp_path / variant, variant, model__start=str(supervised))
        METHOD.run(given)
    continued, reinforced = seen[GenerativeModule], seen[ReCastModule]
    assert len(continued) == len(reinforced) == 6
    assert all(torch.equal(one, other) for one, other in zip(continued, reinforced, strict=True))


def test_a_fit_is_repeated_and_resumed_bit_by_bit(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path
) -> None:
    common = {
        "model__start": str(supervised),
        "model__rollout__search": "sample",
        "model__update__passes": 2,
        "model__signal__adaptive": 0.5,
    }
    whole = weights(METHOD.run(experiment(data, split, tmp_path / "whole", **common)))
    METHOD.run(experiment(data, split, tmp_path / "parts", **common, model__update__steps=3))
    parts = weights(METHOD.run(experiment(data, split, tmp_path / "parts", **common)))
    again = weights(METHOD.run(experiment(data, split, tmp_path / "again", **common)))
    for name in whole:
        assert torch.equal(whole[name], again[name]), name
        assert torch.equal(whole[name], parts[name]), name
    # The second pass on the same answers compares itself with the policy that wrote them.
    curves = pl.read_csv(tmp_path / "whole" / "reinforced" / "curves.csv")
    assert curves.filter(pl.col("name") == "old_divergence")["value"].abs().min() > 0
    totals = [json.loads((tmp_path / kind / "fit.json").read_text())["reinforcement"] for kind in ("whole", "parts")]
    for name in ("generated_answers", "actor_tokens"):
        assert totals[0][name] == totals[1][name]


@pytest.mark.parametrize("variant", ("default", "repair-only"))
def test_reinforcement_finds_what_supervised_training_had_not(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path, variant: str
) -> None:
    """Three epochs on half of the users leave much to learn from the other half."""
    given = experiment(
        data,
        split,
        tmp_path / "run",
        variant,
        model__start=str(supervised),
        model__update__steps=60,
        model__update__learning_rate=0.003,
        model__guard__every=60,
        model__guard__users=80,
    )
    METHOD.run(given)
    health = json.loads((tmp_path / "run" / "fit.json").read_text())["health"]
    assert health["hit_rate"] > health["supervised"] + 0.1


def test_a_guard_stops_and_goes_back(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = experiment(
        data,
        split,
        tmp_path / "run",
        model__start=str(supervised),
        model__update__learning_rate=0.5,
        model__guard__least_share=5.0,
        model__guard__stop=True,
    )
    retriever = METHOD.run(given)
    assert all(
        torch.equal(value, weights(retriever)[name])
        for name, value in load_file(supervised / "seed-0" / "weights.safetensors").items()
    )
    health = json.loads((tmp_path / "run" / "fit.json").read_text())["health"]
    assert health["stopped_at_step"] == 3
    assert "of the supervised model" in health["warnings"][0]
    printed = capsys.readouterr().out
    assert "Step 3: hit rate" in printed and "The model is unwell" in printed


def test_a_finished_fit_that_is_run_again_keeps_its_last_measurement(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well at step 3 and unwell at step 6, the last one, whose checkpoint is the one that a rerun begins with."""
    found = iter(([], ["drifted"]))
    monkeypatch.setattr(guard, "complaints", lambda *arguments: next(found))
    common = {"model__start": str(supervised), "model__guard__stop": True}
    runs = []
    for _ in range(2):
        retriever = METHOD.run(experiment(data, split, tmp_path / "run", **common))
        runs.append((weights(retriever), json.loads((tmp_path / "run" / "fit.json").read_text())["health"]))
    (first, health), (second, health_again) = runs
    assert health["stopped_at_step"] == 6 and health["warnings"] == ["step 6: drifted"]
    assert health_again == health
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Nobody else writes checkpoints.
    assert [path.name for path in (tmp_path / "run").rglob("*.ckpt")] == ["last.ckpt"]


def test_a_supervised_model_that_was_taught_by_others_is_refused(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path
) -> None:
    start = str(supervised / "seed-0")
    given = experiment(data, split, tmp_path / "seed", model__start=start)
    with pytest.raises(ConfigurationError, match="was trained with seed=0 instead of 1, so it may have learnt"):
        METHOD.run(replace(given, seed=1))
    with pytest.raises(ConfigurationError, match=r"reinforced_users=0\.5 instead of 0\.9"):
        METHOD.run(experiment(data, split, tmp_path / "share", model__start=start, model__reinforced_users=0.9))
    manifest = replace(split.manifest, fingerprint="another")
    with pytest.raises(ConfigurationError, match="instead of another"):
        METHOD.run(replace(given, split=replace(split, manifest=manifest)))
    (tmp_path / "old").mkdir()
    shutil.copy(supervised / "seed-0" / "weights.safetensors", tmp_path / "old")
    with pytest.raises(ConfigurationError, match=r"no taught\.json in"):
        METHOD.run(experiment(data, split, tmp_path / "run", model__start=str(tmp_path / "old")))


def test_a_measurement_looks_back_over_an_interruption(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path
) -> None:
    common = {
        "model__start": str(supervised),
        "model__guard__every": 6,
        "model__rollout__search": "sample",
        "model__update__learning_rate": 0.02,
    }
    METHOD.run(experiment(data, split, tmp_path / "whole", **common))
    METHOD.run(experiment(data, split, tmp_path / "parts", **common, model__update__steps=4))
    METHOD.run(experiment(data, split, tmp_path / "parts", **common))
    whole, parts = (json.loads((tmp_path / name / "fit.json").read_text())["health"] for name in ("whole", "parts"))
    assert "entropy" in whole and parts == whole


def test_each_bound_has_its_complaint() -> None:
    well = {"valid_rate": 1.0, "entropy": 1.0, "unique_rate": 1.0, "reference_divergence": 0.1}
    bounds = GuardConfig(least_entropy=0.5, least_unique=0.5)
    assert complaints(well, 0.1, 0.1, bounds) == []
    assert complaints(well, 0.089, 0.1, bounds) != []
    for name, value in (("valid_rate", 0.8), ("entropy", 0.4), ("unique_rate", 0.4), ("reference_divergence", 6.0)):
        (only,) = complaints(well | {name: value}, 0.1, 0.1, bounds)
        assert name.replace("_", " ") in only


def test_weights_of_another_model_are_refused(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path
) -> None:
    with pytest.raises(ConfigurationError, match="does not hold the weights of this generator"):
        METHOD.run(experiment(data, split, tmp_path / "a", model__start=str(supervised), model__generator__dimension=8))
    with pytest.raises(DataError, match=r"There is no weights\.safetensors in"):
        METHOD.run(experiment(data, split, tmp_path / "b", model__start=str(tmp_path / "nothing")))


def test_what_the_second_stage_cannot_do_is_refused_before_the_first(
    data: EncodedSplit, split: Split, tmp_path: Path
) -> None:
    nobody = replace(data, validation=without_users())
    for number, (given, key, value, message) in enumerate(
        (
            (data, "trainer__devices", 2, "runs on one device"),
            (data, "trainer__precision", "16-mixed", "trainer.precision is 16-mixed"),
            (data, "model__rollout__width", 41, "model.rollout.width is 41, but the items have only 40 different ids"),
            (nobody, "model__guard__stop", True, "model.guard.stop measures the model on validation users"),
        )
    ):
        folder = tmp_path / str(number)
        with pytest.raises(ConfigurationError, match=message):
            METHOD.run(experiment(given, split, folder, **{key: value}))
        assert not (folder / "weights.safetensors").exists()


def test_without_validation_users_nothing_is_said_of_health(
    data: EncodedSplit, split: Split, tmp_path: Path, supervised: Path
) -> None:
    given = replace(data, validation=without_users())
    METHOD.run(experiment(given, split, tmp_path / "run", model__start=str(supervised)))
    assert "health" not in json.loads((tmp_path / "run" / "fit.json").read_text())


def without_users() -> HeldOut:
    nothing = np.zeros(0, np.int64)
    return HeldOut(nothing, nothing, np.zeros(1, np.int64), nothing.astype(np.int32), nothing)
