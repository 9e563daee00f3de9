"""What every two-tower backbone must satisfy, and what plugs into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from recascade.contracts.context import Context
from recascade.data.features import FeatureTable, MultiValued
from recascade.errors import ConfigurationError
from recascade.models.dat import DAT
from recascade.models.dssm import DSSM
from recascade.models.factorisation import Factorisation
from recascade.models.int_tower import IntTower
from recascade.models.transformer_tower import TransformerTower
from recascade.models.two_tower import AuxiliaryLoss, TwoTower
from recascade.nn.tower import plain_layer

ITEMS, USERS, HISTORY, EVENTS = 30, 12, 4, 9

Build = Callable[..., Any]
LAYERED: dict[str, Build] = {
    "dssm": lambda **options: DSSM(ITEMS, 8, (12, 10), HISTORY, users=USERS, embedding_dimension=6, **options),
    "dat": lambda **options: DAT(ITEMS, USERS, 8, (12, 10), HISTORY, embedding_dimension=6, **options),
    "int_tower": lambda **options: IntTower(ITEMS, 8, (12, 10), HISTORY, users=USERS, embedding_dimension=6, **options),
    "int_tower_one_head": lambda **options: IntTower(
        ITEMS, 8, (12, 10), HISTORY, 1, users=USERS, embedding_dimension=6, **options
    ),
    "transformer": lambda **options: TransformerTower(
        ITEMS, 8, (12, 10), HISTORY, 2, users=USERS, embedding_dimension=6, **options
    ),
}
BACKBONES: dict[str, Build] = {
    **LAYERED,
    "factorisation": lambda **options: Factorisation(ITEMS, USERS, 8, **options),
}


def features(rows: int) -> FeatureTable:
    random = np.random.default_rng(rows)
    return FeatureTable(
        categorical=random.integers(0, 3, (rows, 2)).astype(np.int32),
        categorical_names=("brand", "size"),
        cardinalities=(3, 3),
        numeric=random.normal(size=(rows, 1)).astype(np.float32),
        numeric_names=("price",),
        multi_valued=(
            MultiValued("genres", 4, random.integers(1, 4, 2 * rows).astype(np.int32), np.arange(rows + 1) * 2),
        ),
    )


def make(build: Build, seed: int = 0, **options: Any) -> Any:
    """A backbone with weights large enough that every input matters."""
    torch.manual_seed(seed)
    model: nn.Module = build(initial_deviation=1.0, **options)
    return model


def requests(seed: int = 0, count: int = EVENTS) -> Context:
    """Requests of known and unknown users, some without history, some with unknown items or a long history."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 2 * HISTORY, count)
    lengths[0] = 0
    offsets = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))
    events = int(offsets[-1])
    users = torch.from_numpy(random.integers(-1, USERS, count))
    items = torch.from_numpy(random.integers(-1, ITEMS, events))
    return Context(users, items, torch.zeros(events, dtype=torch.int64), offsets)


def candidates(seed: int = 1, count: int = EVENTS) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(-1, ITEMS, count))


@pytest.fixture(params=[False, True], ids=["ids", "features"])
def inputs(request) -> dict[str, Any]:
    return dict(item_features=features(ITEMS), user_features=features(USERS)) if request.param else {}


@pytest.fixture(params=BACKBONES)
def model(request, inputs) -> Any:
    return make(BACKBONES[request.param], **inputs)


@pytest.fixture(params=LAYERED)
def layered(request) -> Build:
    return LAYERED[request.param]


def vectors(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return model.user_vectors(requests()), model.item_vectors(candidates())


def test_vectors_are_of_the_promised_widths(model) -> None:
    users, items = vectors(model)
    assert isinstance(model, TwoTower)
    assert users.shape == (EVENTS, model.user_width) and items.shape == (EVENTS, model.item_width)
    assert users.dtype == items.dtype == torch.float32


def test_a_vector_does_not_depend_on_its_batch(model) -> None:
    context, items = requests(), candidates()
    together = vectors(model)
    with torch.no_grad():
        for row in range(EVENTS):
            user = model.user_vectors(context.between(row, row + 1))
            torch.testing.assert_close(user[0], together[0][row], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(model.item_vectors(items[[row]])[0], together[1][row], atol=1e-6, rtol=1e-5)


def test_a_vector_does_not_depend_on_other_users_and_items(model) -> None:
    context, items = requests(), candidates()
    users_before, items_before = vectors(model)
    changed = replace(context, users=context.users.roll(1), items=(context.items + 5) % ITEMS)
    row = int(context.lengths.argmax())
    changed.users[row] = context.users[row]
    own = slice(int(context.offsets[row]), int(context.offsets[row + 1]))
    changed.items[own] = context.items[own]
    others = (items + 5) % ITEMS
    others[row] = items[row]
    with torch.no_grad():
        users_after, items_after = model.user_vectors(changed), model.item_vectors(others)
    assert torch.equal(users_after[row], users_before[row]) and torch.equal(items_after[row], items_before[row])
    assert not torch.equal(users_after, users_before) and not torch.equal(items_after, items_before)


def test_rows_of_tables_that_are_not_read_do_not_matter(model) -> None:
    context = requests()
    context.items.clamp_(max=ITEMS - 2)
    with torch.no_grad():
        before = model.user_vectors(context)
        tables = [module for module in model.modules() if getattr(module, "entity", None) == "item"]
        for table in tables:
            table.weight[-1] += 1
        assert tables and torch.equal(model.user_vectors(context), before)


def test_training_and_evaluation_give_the_same(model) -> None:
    before = vectors(model)
    model.eval()
    after = vectors(model)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_only_the_latest_events_are_read(model) -> None:
    context = requests()
    with torch.no_grad():
        before = model.user_vectors(context)
        if model.history_length:
            assert int(context.lengths.max()) > model.history_length
            assert torch.equal(model.user_vectors(context.last(model.history_length)), before)
            assert not torch.equal(model.user_vectors(context.last(model.history_length - 1)), before)
        else:
            assert torch.equal(model.user_vectors(replace(context, items=context.items.flip(0))), before)


def test_scores_of_pairs_are_those_of_the_matrix(model) -> None:
    users, items = vectors(model)
    matrix = model.scores(users, items)
    assert matrix.shape == (EVENTS, EVENTS)
    torch.testing.assert_close(model.score(users, items), matrix.diagonal())


def test_a_single_inner_product_is_one(model) -> None:
    users, items = vectors(model)
    if model.single_inner_product:
        torch.testing.assert_close(model.scores(users, items), users @ items.T)
    else:
        assert users.shape[1] != items.shape[1]


def test_the_catalogue_is_all_known_items(model) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model.item_vectors(), model.item_vectors(torch.arange(ITEMS)))


def test_every_parameter_learns(model) -> None:
    context, items = requests(), candidates()
    labels = (torch.arange(EVENTS) % 2).float()
    users, chosen = model.user_vectors(context), model.item_vectors(items)
    loss = (model.score(users, chosen) * torch.randn(EVENTS)).sum()
    if isinstance(model, AuxiliaryLoss):
        loss = loss + model.auxiliary_loss(context, items, users, chosen, labels)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A bias of attention's keys has no gradient, nor has a softmax over a single field.
        if not name.endswith("bias") and "excitation" not in name:
            assert parameter.grad.any(), name


def test_a_batch_without_any_history(model) -> None:
    context = requests().last(0)
    assert not len(context.items)
    users = model.user_vectors(context)
    torch.testing.assert_close(users[0], model.user_vectors(requests())[0], atol=1e-6, rtol=1e-5)
    users.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_nothing_couples_the_rows_of_a_batch(model) -> None:
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in model.modules())


def test_users_and_items_beyond_the_feature_tables_are_unknown() -> None:
    for build in BACKBONES.values():
        model = make(build, item_features=features(ITEMS - 4), user_features=features(USERS - 4))
        users, items = vectors(model)
        assert users.isfinite().all() and items.isfinite().all()
        assert model.item_vectors().shape[0] == ITEMS


def test_cosine_vectors_have_unit_length(layered) -> None:
    for similarity, unit in (("cosine", True), ("inner_product", False)):
        model = make(layered, similarity=similarity)
        users, items = (side.reshape(-1, 8).norm(dim=1) for side in vectors(model))
        assert torch.allclose(items, torch.ones(len(items))) == unit
        # With one head, the user vectors of IntTower are means of those of its layers.
        if not (isinstance(model, IntTower) and model.single_inner_product):
            assert torch.allclose(users, torch.ones(len(users))) == unit
        if unit:
            assert model.scores(*vectors(model)).abs().max() <= 1 + 1e-6


def test_layers_come_from_the_factories(layered) -> None:
    made: dict[str, list[tuple[bool, bool]]] = {"user": [], "item": []}

    class Marked(nn.Module):
        def __init__(self, side: str, inner: nn.Module) -> None:
            super().__init__()
            self.side, self.inner = side, inner

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            used.append(self.side)
            return self.inner(values)

    def factory(side: str) -> Any:
        def layer(inputs: int, outputs: int, *, activation: bool, first: bool) -> nn.Module:
            made[side].append((activation, first))
            return Marked(side, plain_layer(inputs, outputs, activation=activation, first=first))

        return layer

    used: list[str] = []
    model = make(layered, user_layer=factory("user"), item_layer=factory("item"))
    perceptron = [(True, True), (True, False), (False, False)]
    if isinstance(model, IntTower):
        assert made == {"user": perceptron[:2], "item": perceptron[:2]}
    elif isinstance(model, TransformerTower):
        feed_forward = [(True, False), (False, False)]
        assert made == {"user": [*feed_forward, *feed_forward, *perceptron], "item": perceptron}
    else:
        assert made == {"user": perceptron, "item": perceptron}
    vectors(model)
    assert sorted(used) == sorted(["user"] * len(made["user"]) + ["item"] * len(made["item"]))


def test_extra_blocks_enter_their_own_tower(layered) -> None:
    model = make(layered, user_extra=5, item_extra=3)
    users, items = vectors(model)
    user_extra, item_extra = torch.randn(EVENTS, 5), torch.randn(EVENTS, 3)
    with torch.no_grad():
        assert torch.equal(model.user_vectors(requests(), torch.zeros(EVENTS, 5)), users)
        assert torch.equal(model.item_vectors(candidates(), torch.zeros(EVENTS, 3)), items)
        changed = model.user_vectors(requests(), user_extra)
        assert (changed != users).any(1).all()
        assert (model.item_vectors(candidates(), item_extra) != items).any(1).all()
        user_extra[0] += 1
        again = model.user_vectors(requests(), user_extra)
    assert torch.equal(again[1:], changed[1:]) and not torch.equal(again[0], changed[0])


def test_extra_blocks_of_another_width_are_refused(layered) -> None:
    with pytest.raises(ConfigurationError, match=r"\[9, 5\].*\[9, 0\]|user_extra") as refused:
        make(layered).user_vectors(requests(), torch.zeros(EVENTS, 5))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("build", [DSSM, IntTower])
def test_towers_of_extra_blocks_alone(build) -> None:
    model = build(ITEMS, recent=0, item_identity=False, user_extra=4, item_extra=4)
    context = requests()
    assert model.user_vectors(context, torch.randn(EVENTS, 4)).isfinite().all()
    assert model.item_vectors(None, torch.randn(ITEMS, 4)).isfinite().all()


@pytest.mark.parametrize("build", [DSSM, IntTower])
def test_a_tower_that_reads_nothing_is_refused(build) -> None:
    with pytest.raises(ConfigurationError, match="user tower reads nothing"):
        build(ITEMS, recent=0)
    with pytest.raises(ConfigurationError, match="item tower reads nothing"):
        build(ITEMS, recent=2, users=3, item_identity=False)


def test_sparse_gradients_are_the_dense_ones(layered) -> None:
    gradients = []
    for sparse in (False, True):
        model = make(layered, sparse=sparse)
        users, items = model.user_vectors(requests()), model.item_vectors(candidates())
        (users.square().sum() + (items * torch.arange(items.shape[1])).sum()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert any(gradient is not None and gradient.is_sparse for gradient in gradients[1].values())
    for name, dense in gradients[0].items():
        other = gradients[1][name]
        if dense is None:
            assert other is None
        else:
            torch.testing.assert_close(other.to_dense(), dense, atol=1e-5, rtol=1e-4)
