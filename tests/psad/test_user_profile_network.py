"""The User Profile Network: identity at the start, finite without history, and every part can be left out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from psad_models import SCHEMA, psad_config, psad_model, random_lists

from recascade.data.reranking_batch import RerankingBatch
from recascade_psad.model import PSADModel
from recascade_psad.objective import distillation, student_step, teacher_step
from recascade_psad.positions import PositionEncoding
from recascade_psad.reranker import StudentReranker, TeacherReranker

PARTS = list(itertools.product((False, True), repeat=3))


def swapped_users(batch: RerankingBatch) -> RerankingBatch:
    users = ("history_items", "history_fields", "history_features", "history_ages", "history_mask", "profile")
    return replace(batch, **{name: getattr(batch, name).flip(0) for name in users})


def without_history(batch: RerankingBatch) -> RerankingBatch:
    return replace(batch, history_mask=torch.zeros_like(batch.history_mask))


def test_untrained_gates_are_the_identity_for_everybody() -> None:
    torch.manual_seed(0)
    model = PSADModel(psad_config(), SCHEMA).eval()
    batch = random_lists([6, 6, 6], seed=3)
    network = model.profile
    assert network.gate is not None and network.ranks is not None and network.ranks.gate is not None
    width = 16
    assert torch.equal(network.gate(*torch.randn(3, 3, 6, width)), torch.ones(3, 6, width))
    encoding: PositionEncoding = network.ranks
    places = encoding(torch.randn(3, width), torch.arange(6))
    assert torch.equal(places, encoding.table.weight[:6].expand(3, -1, -1))
    empty = without_history(batch)
    view = network(empty)
    assert network.score is not None
    plain = network.features.candidates(empty) + network.score(empty.initial_scores[..., None])
    assert torch.allclose(view.candidates, plain + encoding.table.weight[:6], atol=1e-6)


def test_how_large_tables_and_features_are_is_not_how_much_candidates_and_events_weigh() -> None:
    features, batch = psad_model().eval().profile.features, random_lists([8, 5], seed=3)
    expected = features.candidates(batch), features.history(batch)
    with torch.no_grad():
        for parameter in features.projection.parameters():
            parameter.mul_(10)
    for found, before, mask in zip(
        (features.candidates(batch), features.history(batch)),
        expected,
        (batch.candidate_mask, batch.history_mask),
        strict=True,
    ):
        assert before[mask].abs().mean() > 0.1 and (before[~mask] == 0).all()
        assert torch.allclose(found, before, atol=1e-2)


def test_an_empty_history_recalls_nothing_whatever_stands_in_its_padding() -> None:
    batch = without_history(random_lists([6, 4]))
    for model in (psad_model(), psad_model(profile__history_blocks=0)):
        view = model.eval().profile(batch)
        assert torch.isfinite(view.candidates).all() and torch.isfinite(view.intent).all()
        noise = replace(
            batch,
            history_items=torch.full_like(batch.history_items, 5),
            history_features=torch.full_like(batch.history_features, 1e4),
            history_ages=torch.full_like(batch.history_ages, 9.0),
        )
        assert torch.equal(model.profile(noise).candidates, view.candidates)
    narrow = replace(
        batch,
        **{
            name: getattr(batch, name)[:, :0]
            for name in ("history_items", "history_fields", "history_features", "history_ages", "history_mask")
        },
    )
    assert torch.allclose(model.profile(narrow).candidates, view.candidates, atol=1e-6)


def test_how_far_histories_are_padded_changes_nothing() -> None:
    model, batch = psad_model().eval(), random_lists([6, 4])
    history = ("history_items", "history_fields", "history_features", "history_ages", "history_mask")
    batch = replace(batch, history_mask=torch.arange(6) < torch.tensor([[3], [2]]))
    narrow = replace(batch, **{name: getattr(batch, name)[:, :3] for name in history})
    for found, expected in zip(
        (model.profile(narrow).candidates, model.profile(narrow).intent),
        (model.profile(batch).candidates, model.profile(batch).intent),
        strict=True,
    ):
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("parts", PARTS)
def test_every_selection_of_parts_trains(parts: tuple[bool, bool, bool]) -> None:
    gate, dynamics, position = parts
    model = psad_model(profile__gate=gate, profile__dynamics=dynamics, profile__position=position).train()
    batch = random_lists([8, 5, 3])
    view = model.profile(batch)
    taught = teacher_step(model, batch, view)
    scores, loss = student_step(model, batch, view)
    assert taught.lesson is not None
    lesson = distillation(model.config.distillation, taught.lesson, scores, batch.candidate_mask)
    (taught.loss + loss + lesson).backward()
    unmoved = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not unmoved
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("parts", PARTS)
def test_users_matter_through_the_parts_that_are_on(parts: tuple[bool, bool, bool]) -> None:
    gate, dynamics, position = parts
    batch = random_lists([8, 8], seed=1)
    batch = replace(batch, history_mask=torch.ones_like(batch.history_mask))
    switches = {"profile__gate": gate, "profile__dynamics": dynamics, "profile__position": position}
    network = psad_model(**switches).eval().profile
    own, other = network(batch), network(swapped_users(batch))
    assert ((own.candidates - other.candidates).abs().max() > 1e-3) == any(parts)
    # The student reads the intent besides.
    assert (own.intent - other.intent).abs().max() > 1e-3


@pytest.mark.parametrize("reranker", (StudentReranker, TeacherReranker))
def test_labels_reach_no_answer(reranker: type[StudentReranker] | type[TeacherReranker]) -> None:
    served = reranker(psad_model())
    batch = random_lists([9, 6])
    turned = replace(batch, labels=1 - batch.labels)
    assert torch.equal(served.rerank(batch, 9), served.rerank(turned, 9))


def test_older_events_count_less_where_the_user_decays_faster() -> None:
    model = psad_model(profile__history_blocks=0, profile__gate=False).eval()
    batch = random_lists([3], seed=2)
    batch = replace(
        batch,
        history_mask=torch.ones_like(batch.history_mask),
        history_ages=torch.tensor([[20.0, 1.0, 1.0, 1.0, 1.0, 1.0]]),
    )
    changed = batch.history_items.clone()
    changed[0, 0] = (changed[0, 0] + 7) % 40
    network = model.profile

    def influence(rate: float) -> float:
        with torch.no_grad():
            network.decay.weight.zero_()
            intent = torch.ones(1, 16)
            network.decay.weight.add_(rate)
            candidates = network.features.candidates(batch)
            recalled = [
                network._recalled(batch, candidates, intent, network._history(replace(batch, history_items=items)))
                for items in (batch.history_items, changed)
            ]
        return float((recalled[0] - recalled[1]).abs().max())

    assert influence(0.5) < influence(0.0) / 10
