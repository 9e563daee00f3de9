from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recascade.data.features import FeatureTable, build_features

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["t1", "t2", "t3", "t4", "t5"],
        "brand": ["p", "p", "q", "q", None],
        "name": ["n1", "n2", "n3", "n4", "n5"],
        "domain": ["beauty"] * 5,
        "price": [1.0, 3.0, None, float("nan"), 5.0],
        "stars": [1, 1, 2, 2, 2],
        "categories": [["x", "y"], ["y"], None, ["y", "x", "only here"], []],
        "on_sale": [True, False, True, None, False],
    }
)


def build(ids: list[str], trained: list[bool] | None = None) -> FeatureTable:
    known = np.array(trained if trained is not None else [True] * len(ids))
    features = build_features(ITEMS, "item_id", pl.Series(ids), known)
    assert features is not None
    return features


def test_columns_become_features_by_type() -> None:
    features = build(["a", "b", "c", "d", "e"])
    assert features.categorical_names == ("brand", "stars", "on_sale")
    assert features.cardinalities == (3, 3, 3)
    assert features.categorical.dtype == np.int32
    brand, stars, on_sale = features.categorical.T
    assert brand[0] == brand[1] != brand[2] == brand[3]
    assert brand[4] == 0 and brand.min() == 0 and brand.max() == 2
    assert stars.tolist() == [2, 2, 1, 1, 1]  # the most frequent value first
    assert on_sale[3] == 0
    assert features.numeric_names == ("price",)
    assert features.numeric[:, 0] == pytest.approx([-1.2247449, 0, 0, 0, 1.2247449])
    (categories,) = features.multi_valued
    assert categories.offsets.tolist() == [0, 2, 3, 3, 5, 5]
    assert categories.values.tolist() == [2, 1, 1, 1, 2]
    assert categories.cardinality == 3


def test_rows_follow_the_vocabulary_and_unknown_items_have_no_features() -> None:
    features = build(["e", "a", "never listed", "b", "c", "d"])
    assert len(features) == 6
    assert features.categorical[2].tolist() == [0, 0, 0]
    assert features.categorical[1].tolist() == build(["a", "b", "c", "d", "e"]).categorical[0].tolist()
    assert features.numeric[2, 0] == 0
    assert np.diff(features.multi_valued[0].offsets)[2] == 0


def test_only_trained_rows_define_categories_and_scale() -> None:
    table = pl.DataFrame({"item_id": list("abcdefg"), "brand": list("ppqqrrp"), "price": [1.0, 3, 5, 3, 99, 99, 3]})
    trained = np.array([True, True, True, True, False, False, False])
    features = build_features(table, "item_id", table["item_id"], trained)
    assert features is not None
    assert features.categorical[:, 0].tolist() == [1, 1, 2, 2, 0, 0, 1]
    assert features.numeric[:, 0] == pytest.approx((table["price"].to_numpy() - 3) / np.sqrt(2), rel=1e-6)


def test_a_table_of_titles_alone_has_no_features() -> None:
    table = ITEMS.select("item_id", "title", "domain")
    assert build_features(table, "item_id", pl.Series(["a", "b"]), np.array([True, True])) is None


def test_save_and_load(tmp_path: Path) -> None:
    features = build(["a", "b", "c", "d", "e"])
    features.save(tmp_path / "features")
    loaded = FeatureTable.load(tmp_path / "features")
    assert loaded.categorical_names == features.categorical_names
    assert loaded.cardinalities == features.cardinalities
    np.testing.assert_array_equal(loaded.categorical, features.categorical)
    np.testing.assert_array_equal(loaded.numeric, features.numeric)
    np.testing.assert_array_equal(loaded.multi_valued[0].values, features.multi_valued[0].values)
    assert loaded.multi_valued[0].name == "categories"


def test_real_grocery_features(real_data) -> None:
    items = real_data("completejourney").items().collect()
    features = build_features(items, "item_id", items["item_id"], np.ones(len(items), dtype=np.bool_))
    assert features is not None
    assert {"brand", "department", "product_category"} <= set(features.categorical_names)
    for codes, cardinality in zip(features.categorical.T, features.cardinalities, strict=True):
        assert codes.min() >= 0
        assert codes.max() == cardinality - 1
