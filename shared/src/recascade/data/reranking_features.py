"""Item and user tables of a re-ranker, from the features of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recascade.data.features import FeatureTable, MultiValued
from recascade.data.reranking_inputs import RerankingInputs

# Our choice: a feature with several values per item becomes one 0/1 feature per value up to this many values.
MOST_INDICATORS = 64
# Our choice: quantities of users become categories by their tenths.
PROFILE_BUCKETS = 10


def catalogue_inputs(
    item_features: FeatureTable | None,
    item_counts: NDArray[np.int64],
    user_features: FeatureTable | None,
    users: int,
    *,
    candidates: int,
    history: int,
) -> RerankingInputs:
    """What the training events and the catalogue say of items and users; lists bring no features of their own.

    Categories are fields; quantities and the logarithm of an item's training events are features. Of a feature with
    several values per item, few values become indicators; of many, the first is taken as a field.

    Args:
        item_features: of the I items, or None.
        item_counts: int64 ``[I]``, training events per item.
        user_features: of the users, or None.
        users: their number.
        candidates: see ``RerankingInputs``.
        history: see ``RerankingInputs``.
    """
    field_columns, field_sizes, feature_columns = _item_columns(item_features)
    feature_columns.append(_standardised(np.log1p(item_counts)))
    profiles, profile_sizes = _profiles(user_features, users)
    return RerankingInputs(
        item_fields=_stacked(field_columns, len(item_counts), np.int32),
        field_sizes=tuple(field_sizes),
        item_features=_stacked(feature_columns, len(item_counts), np.float32),
        user_profiles=profiles,
        profile_sizes=profile_sizes,
        feature_mean=np.zeros(0, dtype=np.float32),
        feature_deviation=np.ones(0, dtype=np.float32),
        candidates=candidates,
        history=history,
    )


def _item_columns(
    table: FeatureTable | None,
) -> tuple[list[NDArray[np.int32]], list[int], list[NDArray[np.float32]]]:
    if table is None:
        return [], [], []
    fields = [np.asarray(column) for column in np.asarray(table.categorical).T]
    sizes = list(table.cardinalities)
    features = [np.asarray(column) for column in np.asarray(table.numeric).T]
    for feature in table.multi_valued:
        if feature.cardinality <= MOST_INDICATORS + 1:
            features.extend(_standardised(column) for column in _indicators(feature))
        else:
            fields.append(_first_values(feature))
            sizes.append(feature.cardinality)
    return fields, sizes, features


def _indicators(feature: MultiValued) -> NDArray[np.float32]:
    """float32 ``[cardinality - 1, N]``: 1 where a row has the value."""
    rows = np.repeat(np.arange(len(feature.offsets) - 1), np.diff(feature.offsets))
    matrix = np.zeros((feature.cardinality, len(feature.offsets) - 1), dtype=np.float32)
    matrix[feature.values, rows] = 1
    return matrix[1:]


def _first_values(feature: MultiValued) -> NDArray[np.int32]:
    starts, filled = feature.offsets[:-1], np.diff(feature.offsets) > 0
    values = np.zeros(len(starts), dtype=np.int32)
    values[filled] = feature.values[starts[filled]]
    return values


def _profiles(table: FeatureTable | None, users: int) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    if table is None:
        return np.zeros((users, 0), dtype=np.int32), ()
    columns = [np.asarray(column) for column in np.asarray(table.categorical).T]
    sizes = list(table.cardinalities)
    for values in np.asarray(table.numeric).T:
        bounds = np.quantile(values, np.arange(1, PROFILE_BUCKETS) / PROFILE_BUCKETS)
        columns.append((np.searchsorted(bounds, values) + 1).astype(np.int32))
        sizes.append(PROFILE_BUCKETS + 1)
    for feature in table.multi_valued:
        columns.append(_first_values(feature))
        sizes.append(feature.cardinality)
    return _stacked(columns, users, np.int32), tuple(sizes)


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    deviation = values.std()
    scaled: NDArray[np.float32] = ((values - values.mean()) / (deviation or 1)).astype(np.float32)
    return scaled


def _stacked(columns: Sequence[NDArray[Any]], rows: int, dtype: type[Any]) -> NDArray[Any]:
    return np.stack(columns, axis=1).astype(dtype) if columns else np.zeros((rows, 0), dtype=dtype)
