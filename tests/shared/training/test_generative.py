from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.data.item_domains import ItemDomains
from recascade.data.next_item import NextItemBatch, NextItemData
from recascade.data.prefixes import PrefixData
from recascade.data.split_config import SplitConfig
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.decoder_only import DecoderOnly
from recascade.models.tiger import TIGER
from recascade.training.config import TrainerConfig
from recascade.training.fit import FitResult, fit
from recascade.training.generative import GenerativeModule

SIZES = (5, 4)
SHAPE = {"dimension": 16, "heads": 2, "hidden": 32, "max_length": 10}


def item_codes(items: int = 20) -> Tensor:
    """One id per item."""
    return torch.stack([torch.arange(items) % 5, torch.arange(items) // 5], dim=1)


def make_model(name: str) -> TIGER | DecoderOnly:
    torch.manual_seed(0)
    if name == "decoder-only":
        return DecoderOnly(item_codes(), SIZES, blocks=1, **SHAPE)
    causal = name == "tiger-causal"
    return TIGER(item_codes(), SIZES, encoder_blocks=1, decoder_blocks=1, head_width=None, causal=causal, **SHAPE)


NAMES = ("tiger", "tiger-causal", "decoder-only")


def run(small_fit, name: str, directory: Path, split=None, **settings) -> tuple[FitResult, GenerativeModule]:
    torch.set_num_threads(1)
    plain = {"max_epochs": 2, "batch_sequences": 16, "learning_rate": 0.005, "progress": False, "tensorboard": False}
    trainer = TrainerConfig(**(plain | {"accelerator": "cpu"} | settings))
    split, model = split or small_fit.small_split(), make_model(name)
    module = GenerativeModule(model, split, trainer, (8, 20))
    if model.one_pass:
        data = NextItemData(split, trainer, max_length=10, windows="chunks", seed=1)
    else:
        data = PrefixData(split, trainer, max_length=10, seed=1)
    return fit(module, data, trainer, directory, 1), module


def batch(one_pass: bool) -> NextItemBatch:
    context = Context(torch.arange(2), torch.tensor([3, 4, 5, 6, 7]), torch.zeros(5).long(), torch.tensor([0, 3, 5]))
    if not one_pass:
        return NextItemBatch(context, torch.tensor([2, 4]), torch.tensor([9, 10, 11]), torch.tensor([0, 0, 1]))
    return NextItemBatch(context, torch.tensor([0, 2, 4]), torch.tensor([4, 9, 10, 11]), torch.tensor([0, 1, 1, 2]))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_mean_negative_log_probability_of_the_targets(small_fit, name: str) -> None:
    model = make_model(name).double().eval()
    module = GenerativeModule(model, small_fit.small_split(), TrainerConfig(), (8, 20))
    given = batch(model.one_pass)
    expected = []
    for target, owner in zip(given.targets, given.owners, strict=True):
        at = int(given.positions[owner])
        start = 0 if at < 3 else 3
        items = given.context.items[start : at + 1]
        history = Context(torch.tensor([0]), items, torch.zeros_like(items), torch.tensor([0, len(items)]))
        expected.append(-model.log_prob(model.encode(history), item_codes()[target].view(1, 1, -1)))
    torch.testing.assert_close(module.training_step(given, 0), torch.stack(expected).mean())


@pytest.mark.parametrize("name", NAMES)
def test_the_monitor_is_what_the_evaluator_measures(small_fit, tmp_path: Path, name: str) -> None:
    result, module = run(small_fit, name, tmp_path, max_epochs=1, monitor="ndcg@5")
    config = EvaluationConfig(cutoffs=[5], metrics=["ndcg"])
    measured = evaluate(module.retriever(), small_fit.small_split(), "validation", config)
    # Lightning keeps logged values in float32.
    assert result.best_value == pytest.approx(measured.summary["ndcg@5"], abs=1e-7)


def test_the_monitor_ranks_the_target_domain_alone_as_the_evaluator_does(small_fit, tmp_path: Path) -> None:
    domains = ItemDomains(("even", "odd"), np.arange(20, dtype=np.int16) % 2)
    split = small_fit.small_split()
    manifest = replace(split.manifest, config=SplitConfig(target_domain="odd"))
    split = replace(split, item_domains=domains, manifest=manifest)
    result, module = run(small_fit, "decoder-only", tmp_path, split, max_epochs=1, monitor="ndcg@5")
    measured = evaluate(module.retriever(), split, "validation", EvaluationConfig(cutoffs=[5], metrics=["ndcg"]))
    assert (measured.lists[:, 0] % 2 == 1).all()
    assert result.best_value == pytest.approx(measured.summary["ndcg@5"], abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_to_walk_on_the_ring(small_fit, tmp_path: Path, name: str) -> None:
    """The next item is one of two: a list of two that knows the rule always holds it."""
    size = 16 if name == "tiger" else 3
    result, _ = run(
        small_fit, name, tmp_path, max_epochs=20, monitor="recall@2", validate_every=5, batch_sequences=size
    )
    assert result.best_value is not None and result.best_value > 0.8


def test_an_interrupted_training_ends_with_the_same_weights(small_fit, tmp_path: Path) -> None:
    _, whole = run(small_fit, "tiger", tmp_path / "whole", max_epochs=2)
    run(small_fit, "tiger", tmp_path / "parts", max_epochs=1)
    _, parts = run(small_fit, "tiger", tmp_path / "parts", max_epochs=2)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)
