"""Training: repeatable, resumable, from random weights, and able to learn lists by heart."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from psad_models import psad_config
from psad_runs import small_lists, trained

from recascade.contracts.reranker import ListScorer
from recascade.errors import ConfigurationError
from recascade.evaluation.list_metrics import ndcg, ordered_labels
from recascade.files import read_json
from recascade_psad.method import METHOD, VARIANTS
from recascade_psad.model import PSADModel
from recascade_psad.objective import distillation, student_step, teacher_step
from recascade_psad.reranker import StudentReranker, TeacherReranker


def curve(directory: Path) -> list[float]:
    lines = pl.read_csv(directory / "curves.csv").filter(pl.col("name") == "loss").sort("step")
    losses: list[float] = lines["value"].to_list()
    return losses


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_variant_trains_and_serves_what_it_says(variant: str, tmp_path: Path) -> None:
    lists = small_lists(120)
    overrides = {key.replace(".", "__"): value for key, value in VARIANTS[variant].items()}
    reranker = trained(tmp_path, lists, **overrides)
    serves_teacher = overrides.get("serve") == "teacher"
    assert isinstance(reranker, TeacherReranker if serves_teacher else StudentReranker)
    assert isinstance(reranker, ListScorer) != serves_teacher
    orders = reranker.rerank(lists.batch(lists.rows("test")), 10)
    assert (orders.sort(1).values == torch.arange(10)).all()
    facts = read_json(tmp_path / "fit.json")
    assert facts["epochs"] == 1 and 0 < facts["served_parameters"] <= facts["parameters"]


def test_the_same_seed_gives_the_same_losses_and_another_one_others(tmp_path: Path) -> None:
    lists = small_lists()
    curves = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trained(tmp_path / name, lists, seed=seed, epochs=5, dropout=0.1)
        curves.append(curve(tmp_path / name))
    assert len(curves[0]) >= 20
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("train", ("joint", "offline"))
def test_a_finished_fit_is_opened_by_fitting_again(train: str, tmp_path: Path) -> None:
    lists = small_lists(120)
    first = trained(tmp_path, lists, epochs=2, train=train, dropout=0.1)
    again = trained(tmp_path, lists, epochs=2, train=train, dropout=0.1)
    assert isinstance(first, StudentReranker) and isinstance(again, StudentReranker)
    batch = lists.batch(lists.rows("test"))
    assert torch.equal(first.scores(batch), again.scores(batch))


def test_distillation_waits_until_the_teacher_knows_something(tmp_path: Path) -> None:
    lists = small_lists(120)
    trained(tmp_path / "late", lists, epochs=2, distillation__warm_up=50)
    trained(tmp_path / "never", lists, epochs=2, distillation__weight=0.0)
    trained(tmp_path / "at once", lists, epochs=2, distillation__warm_up=0)
    per_epoch = len(curve(tmp_path / "late")) // 2
    assert curve(tmp_path / "late")[:per_epoch] == curve(tmp_path / "never")[:per_epoch]
    assert curve(tmp_path / "late")[per_epoch:] != curve(tmp_path / "never")[per_epoch:]
    assert curve(tmp_path / "at once")[0] > curve(tmp_path / "never")[0]


@pytest.mark.parametrize("block", (1, 5, 0))
def test_both_networks_learn_lists_by_heart(block: int) -> None:
    lists = small_lists(64)
    batch = lists.batch(lists.rows("train")[:32])
    torch.manual_seed(0)
    model = PSADModel(psad_config(teacher__block=block, dimension=32), lists.schema).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        view = model.profile(batch)
        taught = teacher_step(model, batch, view)
        scores, loss = student_step(model, batch, view)
        assert taught.lesson is not None
        kept = distillation(model.config.distillation, taught.lesson, scores, batch.candidate_mask)
        optimizer.zero_grad()
        (taught.loss + loss + 0.5 * kept).backward()
        optimizer.step()
    for reranker in (StudentReranker(model), TeacherReranker(model)):
        labels = batch.labels.numpy()
        orders = reranker.rerank(batch.without_labels(), 10).numpy()
        assert ndcg(ordered_labels(labels, orders), labels, 5).mean() >= 0.99


def test_settings_that_cannot_work_are_named() -> None:
    for overrides, sentence in (
        ({"train": "student", "serve": "teacher"}, r"model\.train=student leaves no teacher"),
        ({"teacher__commit": "greedily"}, r"model\.teacher\.commit.*greedy"),
        ({"dimension": 15}, "multiple of the heads"),
        ({"distillation__temperature": 0.0}, "above 0"),
        ({"distillation__mutual": True, "distillation__target": "rank"}, "plackett-luce"),
        ({"teacher__self_share": 1.5}, "a share"),
        ({"dropout": 1.0}, "below 1"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            psad_config(**overrides)


def test_it_says_what_it_is() -> None:
    assert METHOD.stage == "re-ranking" and METHOD.variants["default"] == {}
