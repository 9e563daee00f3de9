"""Taesar behind the benchmark command, with every backbone and control, and the command that regenerates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner
from mixed_domains import SMALL

from recascade.bench.config import compose
from recascade.bench.registry import find_method
from recascade.contracts.context import Context
from recascade.contracts.method import Experiment
from recascade.contracts.retriever import Retriever
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig
from recascade.errors import ConfigurationError
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.files import read_json
from recascade_taesar.commands import commands
from recascade_taesar.method import METHOD, VARIANTS

QUICK: dict[str, Any] = SMALL | {
    "model.regenerator.epochs": 1,
    "model.regenerator.adaptation_epochs": 1,
    "trainer.max_epochs": 1,
    "trainer.batch_sequences": 32,
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "trainer.accelerator": "cpu",
}


@pytest.fixture(scope="module")
def targeted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Split:
    return make_split(dataset, SplitConfig(target_domain="books"), tmp_path_factory.mktemp("targeted") / "split")


@pytest.fixture(scope="module")
def models(targeted: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    run(targeted, folder)
    return folder / "regeneration/models"


def run(split: Split, directory: Path, variant: str = "default", *, refit: bool = False, **overrides: Any) -> Retriever:
    directory.mkdir(exist_ok=True)
    chosen = {f"model.{key.replace('__', '.')}": value for key, value in overrides.items()}
    config = compose(METHOD, data="mixed", variant=variant, overrides=QUICK | {"trainer.refit": refit} | chosen)
    return METHOD.run(Experiment(config.model, config.trainer, encode(split), split, 0, directory))


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "without-adaptation"])
def test_every_variant_recommends_items_of_the_target_domain(
    targeted: Split, models: Path, tmp_path: Path, variant: str
) -> None:
    retriever = run(targeted, tmp_path, variant, models=str(models))
    data = encode(targeted)
    result = evaluate(retriever, data, "test", EvaluationConfig(cutoffs=[5]))
    items = data.items.decode(result.lists.ravel())
    assert all(item.startswith("books-") for item in items)
    assert result.summary["ndcg@5"] > 0


@pytest.mark.parametrize("backbone", ["gru4rec", "hstu", "cl4srec"])
def test_every_backbone_is_trained(targeted: Split, models: Path, tmp_path: Path, backbone: str) -> None:
    retriever = run(targeted, tmp_path, models=str(models), backbone__name=backbone)
    assert evaluate(retriever, encode(targeted), "test", EvaluationConfig()).summary["ndcg@10"] > 0
    facts = read_json(tmp_path / "fit.json")
    assert facts["epochs"] == 1
    assert facts["parameters"] > 0


def test_without_adaptation_every_expert_is_the_mixed_model(targeted: Split, tmp_path: Path) -> None:
    run(targeted, tmp_path, "without-adaptation", regenerator__adaptation_epochs=0)
    assert sorted(path.name for path in (tmp_path / "regeneration/models").iterdir()) == ["items.json", "mixed"]


def test_requests_are_read_in_the_target_domain_alone(targeted: Split, models: Path, tmp_path: Path) -> None:
    retriever, data = run(targeted, tmp_path, models=str(models)), encode(targeted)
    own = data.items.encode(["books-01", "books-02"])
    others = data.items.encode(["tools-01", "sports-03"])

    def best(items: list[int]) -> torch.Tensor:
        tokens = torch.tensor(items)
        context = Context(torch.tensor([0]), tokens, torch.zeros_like(tokens), torch.tensor([0, len(items)]))
        return retriever.retrieve(context, 5, exclude_seen=True).items

    alone = best([*own])
    assert torch.equal(best([others[0], own[0], others[1], own[1]]), alone)
    assert not np.isin(own, alone.numpy()).any()
    assert torch.equal(best([*others]), best([others[1]]))


def test_a_fit_that_is_repeated_goes_on_from_what_is_there(targeted: Split, models: Path, tmp_path: Path) -> None:
    first = run(targeted, tmp_path, models=str(models))
    stamp = (tmp_path / "regenerated/interactions.parquet").stat().st_mtime_ns
    again = run(targeted, tmp_path, models=str(models))
    assert (tmp_path / "regenerated/interactions.parquet").stat().st_mtime_ns == stamp
    one, other = (evaluate(each, encode(targeted), "test", EvaluationConfig()).lists for each in (first, again))
    assert np.array_equal(one, other)


def test_a_split_without_a_target_domain_is_refused(split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"split.target_domain=NAME, one of books, sports, tools"):
        run(split, tmp_path)


@pytest.mark.parametrize("variant", ["default", "mixed"])
def test_a_refit_is_refused(targeted: Split, tmp_path: Path, variant: str) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.refit is not possible with Taesar"):
        run(targeted, tmp_path, variant, refit=True)


def test_the_method_is_registered() -> None:
    assert find_method("taesar") == METHOD
    for axis, values in METHOD.axes.items():
        for value in values:
            compose(METHOD, data="mixed", overrides={f"model.{axis}": value})


def arguments(dataset: Dataset, output: Path, *words: str) -> list[str]:
    quick = [f"{key}={value}" for key, value in QUICK.items() if key != "trainer.max_epochs"]
    return ["regenerate", str(dataset.path), str(output), *quick, *words]


def test_the_command_writes_one_domain_or_all(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    words = arguments(dataset, tmp_path / "all", "target=all")
    result = CliRunner().invoke(commands, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.count("training events") == 3
    for name in ("books", "sports", "tools"):
        assert Dataset.open(tmp_path / "all" / name).has("split_part")
        assert (tmp_path / "all" / name / "card.html").is_file()
    models = f"model.models={tmp_path / 'all' / 'models'}"
    one = arguments(dataset, tmp_path / "one", "target=sports", models)
    assert CliRunner().invoke(commands, one, catch_exceptions=False).exit_code == 0
    tables = [pl.read_parquet(tmp_path / name / "interactions.parquet") for name in ("one", "all/sports")]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "target=NAME, or target=all"),
        (("target=sport",), "Did you mean 'sports'"),
        (("target=sports", "model.outptu=union"), "Did you mean 'model.output'"),
        (("target=sports", "--variant", "releas"), "Did you mean 'release'"),
    ],
)
def test_the_command_names_what_is_wrong(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("RECASCADE_HOME", str(tmp_path / "home"))
    with pytest.raises(ConfigurationError, match=message):
        CliRunner().invoke(commands, arguments(dataset, tmp_path / "out", *words), catch_exceptions=False)
    assert not (tmp_path / "out").exists()
