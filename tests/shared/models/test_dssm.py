from __future__ import annotations

import numpy as np
import torch

from recascade.contracts.context import Context
from recascade.data.features import FeatureTable, MultiValued
from recascade.models.dssm import DSSM
from recascade.models.feature_encoder import FeatureEncoder


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


def test_features_sum_up() -> None:
    torch.manual_seed(0)
    features = table(4)
    encoder = FeatureEncoder(features, 5)
    with torch.no_grad():
        vectors = encoder()
        for row in range(4):
            expected = encoder.linear(torch.from_numpy(features.numeric[row]))
            for column, start in ((0, 0), (1, 3)):
                expected = expected + encoder.categories[start + int(features.categorical[row, column])]
            if row % 2 == 0:
                expected = expected + encoder.multi_valued[0][1:4].mean(0)
            torch.testing.assert_close(vectors[row], expected)
        rows = torch.tensor([3, 0, 0, 2])
        torch.testing.assert_close(encoder(rows), vectors[rows])


def test_features_are_not_saved_with_the_weights() -> None:
    names = FeatureEncoder(table(4), 5).state_dict()
    assert set(names) == {"categories", "linear.weight", "multi_valued.0"}


def test_only_recent_items_count() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, recent=2, max_length=10).eval()
    with torch.no_grad():
        states = model.states(make_context([0], [6]))
        inputs = (model.item_embedding[4] + model.item_embedding[5]) / 2
        torch.testing.assert_close(states[5], model.user_tower(inputs))


def test_users_of_their_own() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, users=3, max_length=10).eval()
    context = make_context([0, 1, -1], [4, 4, 4])
    context.items[:] = 7
    with torch.no_grad():
        states = model.states(context)
    assert not torch.allclose(states[3], states[7])
    assert not torch.allclose(states[3], states[11])


def test_unknown_user_has_no_user_features() -> None:
    torch.manual_seed(0)
    model = DSSM(20, 8, user_features=table(4), max_length=10).eval()
    plain = DSSM(20, 8, max_length=10).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("user_features")})
    context = make_context([-1, 0], [4, 4])
    with torch.no_grad():
        with_features, without = model.states(context), plain.states(context)
    torch.testing.assert_close(with_features[:4], without[:4])
    assert not torch.allclose(with_features[4:], without[4:])
