"""Decoupled towers, whatever plugs into them: P1, P2, P11 and P22 of the specification."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from online_streams import config, events, learner, predictions

from recascade_cs3.cas import CycleAdaptiveLayer
from recascade_cs3.learner import OnlineLearner

BACKBONES = ("dssm", "dat", "int_tower", "transformer")
COMBINATIONS = [
    tuple(name for name, on in zip(("cas", "cts", "cms"), switches, strict=True) if on)
    for switches in product((False, True), repeat=3)
]
ALL = ("cas", "cts", "cms")


def trained(*mechanisms: str, backbone: str = "dssm", user_identity: bool = True) -> OnlineLearner:
    online = learner(config(*mechanisms, backbone=backbone, user_identity=user_identity))
    for batch in events(320):
        online.tick(batch)
    return online


def user_vectors(online: OnlineLearner, users: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        context = online.tables.histories.context(users)
        return online.module.backbone.user_vectors(context, online.tables.user_inputs(users))


def item_vectors(online: OnlineLearner, items: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return online.module.backbone.item_vectors(items, online.tables.item_inputs(items))


@pytest.mark.parametrize("mechanisms", COMBINATIONS, ids=lambda names: "-".join(names) or "base")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_combination_learns_on_every_backbone(backbone: str, mechanisms: tuple[str, ...]) -> None:
    batches = events(256)
    online = learner(config(*mechanisms, backbone=backbone))
    scores = predictions(online, batches)
    assert scores.shape == (256,)
    assert np.isfinite(scores).all()
    adaptive = sum(isinstance(part, CycleAdaptiveLayer) for part in online.module.backbone.modules())
    assert (adaptive > 0) == ("cas" in mechanisms)
    assert (online.tables.cross is not None) == ("cts" in mechanisms)
    assert (online.tables.cascade is not None) == ("cms" in mechanisms)
    assert (online.module.ranker is not None) == ("cms" in mechanisms)
    for vectors in (online.tables.cross, online.tables.cascade):
        if vectors is not None:
            assert vectors.users.values.abs().sum() > 0
            assert vectors.items.values.abs().sum() > 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_logit_is_the_score_of_two_separate_vectors(backbone: str) -> None:
    online = trained(*ALL, backbone=backbone)
    users, items = torch.arange(12), torch.arange(12) % 7
    module, tables = online.module, online.tables
    with torch.no_grad():
        context = tables.histories.context(users)
        whole = module.towers(context, items, tables.user_inputs(users), tables.item_inputs(items))
        score = module.backbone.score(user_vectors(online, users), item_vectors(online, items))
        torch.testing.assert_close(whole.logits - module.bias, module.log_scale.exp() * score, atol=1e-5, rtol=0)
    if module.backbone.single_inner_product:
        inner = (user_vectors(online, users) * item_vectors(online, items)).sum(1)
        torch.testing.assert_close(score, inner, atol=1e-5, rtol=0)
    else:
        assert backbone == "int_tower"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_rest_of_a_batch_does_not_change_a_vector(backbone: str) -> None:
    online = trained(*ALL, backbone=backbone)
    for vectors, count in ((user_vectors, 30), (item_vectors, 20)):
        together = vectors(online, torch.arange(count))
        alone = torch.cat([vectors(online, torch.tensor([row])) for row in range(count)])
        torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_user_vector_depends_on_no_other_user_and_no_item(backbone: str) -> None:
    online = trained(*ALL, backbone=backbone)
    users = torch.arange(3)
    before = user_vectors(online, users)
    for means in online.tables.item_means:
        means.values.normal_()
    for means in online.tables.user_means:
        means.values[5:].normal_()
    assert torch.equal(user_vectors(online, users), before)
    online.tables.user_means[0].values[1].normal_()
    assert not torch.equal(user_vectors(online, users), before)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_item_vector_depends_on_no_other_item_and_no_user(backbone: str) -> None:
    online = trained(*ALL, backbone=backbone)
    items = torch.arange(3)
    before = item_vectors(online, items)
    for means in online.tables.user_means:
        means.values.normal_()
    for means in online.tables.item_means:
        means.values[5:].normal_()
    online.tables.histories.items.fill_(1)
    assert torch.equal(item_vectors(online, items), before)
    online.tables.item_means[0].values[1].normal_()
    assert not torch.equal(item_vectors(online, items), before)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_gradient_reaches_the_tables(backbone: str) -> None:
    online = trained(*ALL, backbone=backbone)
    known = {id(parameter) for parameter in online.module.parameters()}
    for means in (*online.tables.user_means, *online.tables.item_means):
        assert not means.values.requires_grad
        assert id(means.values) not in known


def test_unknown_users_and_items_get_finite_vectors() -> None:
    for backbone in BACKBONES:
        online = trained(*ALL, backbone=backbone)
        unknown = torch.tensor([-1])
        assert user_vectors(online, unknown).isfinite().all()
        assert item_vectors(online, unknown).isfinite().all()


def test_identities_come_in_any_order_and_the_tables_grow() -> None:
    online = learner(config(*ALL))
    few, many = events(64, users=5, items=5), events(64, users=4_000, items=3_000)
    for batch in few:
        online.tick(batch)
    before = user_vectors(online, torch.arange(5))
    online.grow(5_000, 4_000)
    assert torch.equal(user_vectors(online, torch.arange(5)), before)
    for batch in many:
        online.tick(batch)
    assert len(online.dirty_users) >= 4_000
