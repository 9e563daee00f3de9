from __future__ import annotations

import numpy as np
import torch

from recascade.contracts.context import Context
from recascade.data.features import FeatureTable, MultiValued
from recascade.models.dssm import DSSM


def make_context(users: list[int], lengths: list[int]) -> Context:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    events = int(offsets[-1])
    return Context(torch.tensor(users), torch.arange(events) % 20, torch.zeros(events).long(), offsets)


def table(rows: int) -> FeatureTable:
    return FeatureTable(
        categorical=(np.arange(rows * 2).reshape(rows, 2) % 3).astype(np.int32),
        categorical_names=("brand", "size"),
        cardinalities=(3, 3),
        numeric=np.linspace(-1, 1, rows, dtype=np.float32)[:, None],
        numeric_names=("price",),
        multi_valued=(
            MultiValued(
                "categories",
                4,
                np.array([1, 2, 3] * (rows // 2), dtype=np.int32),
                np.concatenate([[0], np.cumsum([3, 0] * (rows // 2))]).astype(np.int64),
            ),
        ),
    )


def test_only_recent_items_count() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, recent=2, max_length=10, similarity="inner_product")
    with torch.no_grad():
        states = model.states(make_context([0], [6]))
        inputs = (model.item_inputs.identity.weight[5] + model.item_inputs.identity.weight[6]) / 2
        torch.testing.assert_close(states[5], model.user_tower(inputs))


def test_the_newest_state_is_the_user_vector() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, recent=3, max_length=10, users=3, item_features=table(20), user_features=table(4))
    context = make_context([0, 1, -1], [4, 2, 7])
    with torch.no_grad():
        newest = model.states(context)[context.offsets[1:] - 1]
        torch.testing.assert_close(model.user_vectors(context), newest, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(model.newest_states(context), newest, atol=1e-6, rtol=1e-5)
        assert not model.newest_states(make_context([0], [0])).any()


def test_users_of_their_own() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, users=3, max_length=10)
    context = make_context([0, 1, -1], [4, 4, 4])
    context.items[:] = 7
    with torch.no_grad():
        states = model.states(context)
    assert not torch.allclose(states[3], states[7])
    assert not torch.allclose(states[3], states[11])


def test_unknown_user_has_the_features_of_the_unknown() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, user_features=table(4), max_length=10)
    context = make_context([-1, 0, 4], [4, 4, 4])
    context.items[:] = 7
    with torch.no_grad():
        states = model.states(context)
    torch.testing.assert_close(states[:4], states[8:])
    assert not torch.allclose(states[:4], states[4:8])


def test_hidden_layers_drop_out_in_training_only() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, dropout=0.5, max_length=10)
    context = make_context([0], [6])
    assert not torch.equal(model.user_vectors(context), model.user_vectors(context))
    model.eval()
    assert torch.equal(model.user_vectors(context), model.user_vectors(context))
