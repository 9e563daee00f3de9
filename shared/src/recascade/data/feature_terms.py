"""Categorical features as a sparse matrix of terms: one column per value of a feature."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recascade.data.features import FeatureTable


def feature_terms(features: FeatureTable) -> sparse.csr_matrix:
    """float32 ``[N, terms]``: 1 where the row has the value (more where a list names it more than once).

    Unknown values (code 0) are no term; quantities (numeric features) are left out.
    """
    rows: list[np.ndarray] = []
    terms: list[np.ndarray] = []
    first = 0
    codes = np.asarray(features.categorical)
    for column, cardinality in enumerate(features.cardinalities):
        known = np.flatnonzero(codes[:, column] > 0)
        rows.append(known)
        terms.append(first + codes[known, column].astype(np.int64))
        first += cardinality
    for multi in features.multi_valued:
        owners = np.repeat(np.arange(len(features)), np.diff(multi.offsets))
        kept = multi.values > 0
        rows.append(owners[kept])
        terms.append(first + multi.values[kept].astype(np.int64))
        first += multi.cardinality
    row = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    term = np.concatenate(terms) if terms else np.empty(0, dtype=np.int64)
    matrix = sparse.csr_matrix((np.ones(len(row), dtype=np.float32), (row, term)), shape=(len(features), first))
    matrix.sum_duplicates()
    return matrix
