"""The cross-domain SASRec: what its states know, and that it learns what only another domain tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recascade.bench.config import compose
from recascade.bench.registry import find_method
from recascade.contracts.context import Context
from recascade.contracts.method import Experiment
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.split import make_split
from recascade.data.split_config import SplitConfig
from recascade.evaluation.config import EvaluationConfig
from recascade.evaluation.evaluate import evaluate
from recascade.models.cross_domain_sasrec import CrossDomainSASRec

MEMBERS = torch.arange(0, 10)


def some_model() -> CrossDomainSASRec:
    torch.manual_seed(0)
    model = CrossDomainSASRec(20, MEMBERS, 4, dimension=8, max_length=12)
    for module in (*model.adapters, model.projector):
        torch.nn.init.normal_(module.up.weight)
    return model.eval()


def context_of(*rows: list[int]) -> Context:
    items = torch.tensor([item for row in rows for item in row])
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Context(torch.arange(len(rows)), items, torch.zeros_like(items), offsets)


def test_a_state_knows_its_own_past_alone() -> None:
    model = some_model()
    rows = [[3, 12, 15, 4, 11], [13], [14, 2, 2]]
    together = model.states(context_of(*rows))
    alone = torch.cat([model.states(context_of(row[: place + 1]))[-1:] for row in rows for place in range(len(row))])
    torch.testing.assert_close(together, alone)
    newest = model.newest_states(context_of([3, 12], [], [14, 2, 2]))
    torch.testing.assert_close(newest[[0, 2]], together[[1, 8]])
    assert not newest[1].any()


def test_before_the_first_event_of_the_domain_the_mixed_state_stands_alone() -> None:
    model = some_model()
    context = context_of([12, 15])
    mixed = model.fused_norm(model.projector(super(CrossDomainSASRec, model).states(context)))
    torch.testing.assert_close(model.states(context), mixed)


def told_by_another_domain(folder: Path) -> Dataset:
    """Each event of ``own`` has the number of the event of ``other`` before it."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(80):
        for place in range(16):
            kind = random.integers(6)
            rows += [
                (f"u{user:02}", f"other-{kind}", 2 * place, "other"),
                (f"u{user:02}", f"own-{kind}", 2 * place + 1, "own"),
            ]
    folder.mkdir()
    columns = ["user_id", "item_id", "timestamp", "domain"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(folder / "interactions.parquet")
    return Dataset.open(folder)


QUICK: dict[str, Any] = {
    "trainer.max_epochs": 12,
    "trainer.learning_rate": 0.01,
    "trainer.batch_sequences": 16,
    "trainer.progress": False,
    "trainer.tensorboard": False,
    "trainer.accelerator": "cpu",
    "model.dimension": 16,
}


def test_it_learns_what_only_the_other_domain_tells(tmp_path: Path) -> None:
    method = find_method("cross-domain-sasrec")
    split = make_split(told_by_another_domain(tmp_path / "log"), SplitConfig(target_domain="own"), tmp_path / "split")
    data = encode(split)
    run = compose(method, data="told", overrides=QUICK)
    (tmp_path / "run").mkdir()
    retriever = method.run(Experiment(run.model, run.trainer, data, split, 0, tmp_path / "run"))
    assert evaluate(retriever, data, "test", EvaluationConfig(cutoffs=[1])).summary["hit_rate@1"] > 0.8
