"""Every variant of every method does its whole work on a small log: what the registry offers can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mixed_domains import SMALL as SMALL_TAESAR
from mixed_domains import mixed_log

from recascade.bench.job import run_job
from recascade.bench.registry import find_method, installed_methods
from recascade.bench.suite import configs_of
from recascade.bench.sweep import lay_out
from recascade.data.synthetic import markov_log

QUICK: dict[str, Any] = {
    "trainer.max_epochs": 1,
    "trainer.max_steps": 2,
    "trainer.accelerator": "cpu",
    "trainer.tensorboard": False,
    "trainer.progress": False,
}
TOKENIZER: dict[str, Any] = {"model.tokenizer.sizes": [4, 4, 4], "model.tokenizer.content.dimension": 4}
DECODER: dict[str, Any] = {"model.dimension": 16, "model.heads": 2, "model.hidden": 16, "model.beams": [8]}
RERANKING: dict[str, Any] = {"split.protocol": "leave-one-out", "lists.candidates": 10}
SMALL: dict[str, dict[str, Any]] = {
    "cascade": {"model.retrieved": 20, "model.reranked": 8},
    "decoder-only": {**TOKENIZER, **DECODER},
    "gr4ad": {**TOKENIZER, **DECODER, "model.preference.steps": 2, "model.preference.requests": 40},
    "recast": {**TOKENIZER, "model.beams": [8], "model.update.steps": 2, "model.rollout.width": 8},
    "taesar": SMALL_TAESAR,
    "tiger": {**TOKENIZER, **DECODER, "model.head_width": 8},
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A log with texts, prices and times, and one of several domains."""
    folder = tmp_path_factory.mktemp("logs")
    markov_log(folder / "priced", users=60, items=30, mean_length=12.0, features=True, prices=True, seed=1)
    mixed_log(folder / "mixed")
    return {"": folder / "priced", "domains": folder / "mixed"}


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name, method in installed_methods().items() for variant in method.variants],
)
def test_the_variant_runs(name: str, variant: str, logs: dict[str, Path], home: Path, tmp_path: Path) -> None:
    method = find_method(name)
    domains = "domains" in method.needs
    settings = {**(QUICK if method.trained else {}), **SMALL.get(name, {})}
    if method.stage == "re-ranking":
        settings |= RERANKING
    if domains:
        settings["split.target_domain"] = "books"
    (config,) = configs_of(name, str(logs["domains" if domains else ""]), variant, 1, settings)
    (run,) = lay_out([config], tmp_path / "runs", lambda _: None).runs
    result = run_job(run.directory, 1)
    assert result["status"] == "finished"
    assert 0 <= result["metrics"]["test"]["ndcg@10"] <= 1
