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


def test_rows_outside_of_the_table_are_unknown() -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(table(4), 5)
    with torch.no_grad():
        unknown = encoder.categories[0] + encoder.categories[3]
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
