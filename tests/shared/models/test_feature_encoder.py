from __future__ import annotations

import numpy as np
import torch

from recascade.data.features import FeatureTable, MultiValued
from recascade.models.feature_encoder import FeatureEncoder


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
            expected = features.numeric[row, 0] * encoder.embedding[6]
            for column, start in ((0, 0), (1, 3)):
                expected = expected + encoder.embedding[start + int(features.categorical[row, column])]
            if row % 2 == 0:
                expected = expected + encoder.embedding[8:11].mean(0)
            torch.testing.assert_close(vectors[row], expected)
        rows = torch.tensor([3, 0, 0, 2])
        torch.testing.assert_close(encoder(rows), vectors[rows])


def test_means_of_bags() -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(table(4), 5)
    rows, offsets = torch.tensor([3, 0, 0, 2, -1]), torch.tensor([0, 2, 2, 5])
    vectors = encoder(rows)
    expected = torch.stack([vectors[:2].mean(0), torch.zeros(5), vectors[2:].mean(0)])
    means = encoder.mean(rows, offsets)
    torch.testing.assert_close(means, expected)
    weights = torch.randn(3, 5)
    (gradient,) = torch.autograd.grad((means * weights).sum(), encoder.embedding)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), encoder.embedding)
    torch.testing.assert_close(gradient, expected_gradient)


def test_features_are_not_saved_with_the_weights() -> None:
    assert set(FeatureEncoder(table(4), 5).state_dict()) == {"embedding"}


def test_rows_outside_of_the_table_are_unknown() -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(table(4), 5)
    with torch.no_grad():
        unknown = encoder.embedding[0] + encoder.embedding[3]
        torch.testing.assert_close(encoder(torch.tensor([-1, 4, 99])), unknown.repeat(3, 1))
        torch.testing.assert_close(encoder(torch.tensor([4, 1]))[1], encoder()[1])
    assert len(encoder()) == 4


def test_a_table_without_rows_serves_the_unknown() -> None:
    features = FeatureTable(
        categorical=np.zeros((0, 1), dtype=np.int32),
        categorical_names=("brand",),
        cardinalities=(2,),
        numeric=np.zeros((0, 1), dtype=np.float32),
        numeric_names=("price",),
    )
    assert FeatureEncoder(features, 3)(torch.tensor([0, -1])).isfinite().all()
