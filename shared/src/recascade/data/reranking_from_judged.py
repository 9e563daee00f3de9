"""Candidate lists from judged queries (LETOR): the best documents of a first ranker that never saw their labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recascade.data.events import EventSequences, offsets_of, ranges
from recascade.data.lists import JudgedLists
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_inputs import RerankingInputs
from recascade.data.reranking_lists import PARTS, RerankingLists
from recascade.errors import DataError

# Weight of the penalty, relative to one document: features are standardised, so that any small value only keeps the
# solution unique. Our choice.
_RIDGE = 1.0


def lists_from_judged(
    judged: JudgedLists, config: ListsConfig, *, test_fold: int, validation_fold: int | None = None
) -> RerankingLists:
    """Cut each query's documents to the best of a first ranker, and keep that order and its scores.

    The order of the file's ``initial_position`` is kept where it has one. Otherwise the first ranker is a ridge
    regression of the label on the features: for the lists of a training fold it is fitted on the other training folds,
    for validation and test lists on all training folds. So no list is scored by a model that saw its labels, nor by one
    that saw a label of the test fold.

    Each feature with unknown values gets an indicator of them beside it. There are no items, users or histories.

    Args:
        judged: all queries.
        config: how many candidates, and whether lists without a positive label are left out.
        test_fold: the fold to measure on.
        validation_fold: the fold that validates, another one; None for the fold after the test fold.

    Raises:
        DataError: there are fewer than four folds, no such fold, or a part without a list.
    """
    config.check()
    parts = _parts(judged, test_fold, validation_fold)
    features = _with_indicators(judged, parts == PARTS.index("train"))
    scores = _first_scores(judged, features, parts)
    # Highest score first within each list; of equal scores the earlier document.
    owners = np.repeat(np.arange(len(judged)), judged.lengths)
    order = np.lexsort((-scores, owners))
    lengths = np.minimum(judged.lengths, config.candidates)
    chosen = order[ranges(judged.offsets[:-1], lengths)]
    clicked = np.add.reduceat(judged.labels[chosen] > 0, offsets_of(lengths)[:-1], dtype=np.int64) > 0
    kept = np.flatnonzero(clicked | (not config.clicked_only))
    chosen = chosen[ranges(offsets_of(lengths)[kept], lengths[kept])]
    lengths, parts = lengths[kept], parts[kept]
    counts = {part: int((parts == number).sum()) for number, part in enumerate(PARTS)}
    for part, count in counts.items():
        if not count:
            raise DataError(f"With fold {test_fold} to test on, no {part} list has a document with a positive label.")
    training = np.repeat(parts == PARTS.index("train"), lengths)
    mean, deviation = moments(features[chosen][training])
    none = np.zeros(0, dtype=np.int64)
    return RerankingLists(
        inputs=RerankingInputs(
            item_fields=np.zeros((0, 0), dtype=np.int32),
            field_sizes=(),
            item_features=np.zeros((0, 0), dtype=np.float32),
            user_profiles=np.zeros((0, 0), dtype=np.int32),
            profile_sizes=(),
            feature_mean=mean,
            feature_deviation=deviation,
            candidates=config.candidates,
            history=config.history,
        ),
        ids=judged.query_ids.gather(kept.tolist()),
        users=np.full(len(kept), -1),
        times=np.zeros(len(kept), dtype=np.int64),
        events=EventSequences(np.zeros(1, dtype=np.int64), none.astype(np.int32), none, none.astype(np.int32)),
        history_ends=np.zeros(len(kept), dtype=np.int64),
        offsets=offsets_of(lengths),
        items=np.full(len(chosen), -1, dtype=np.int32),
        scores=scores[chosen].astype(np.float32),
        labels=judged.labels[chosen],
        features=features[chosen],
        parts=parts,
        facts={"initial": "ridge regression", "test_fold": test_fold, "lists": counts},
    )


def moments(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation float32 ``[F]`` of each column's finite values; 0 and 1 where there are none."""
    known = np.isfinite(features)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0).sum(axis=0, dtype=np.float64) / counts
    squares = np.where(known, features - mean, 0) ** 2
    deviation = np.sqrt(squares.sum(axis=0, dtype=np.float64) / counts)
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)


def _parts(judged: JudgedLists, test_fold: int, validation_fold: int | None) -> NDArray[np.int8]:
    """int8 ``[Q]``, by fold."""
    folds = sorted(set(judged.folds.tolist()))
    if len(folds) < 4:
        raise DataError(
            f"The judged lists have folds {folds}; at least four are needed: two to train on, so that a first ranker "
            "can be fitted on the other one, one to validate and one to test."
        )
    if test_fold not in folds:
        raise DataError(f"There is no fold {test_fold} to test on; the folds are {folds}.")
    if validation_fold is None:
        validation_fold = folds[(folds.index(test_fold) + 1) % len(folds)]
    if validation_fold == test_fold or validation_fold not in folds:
        raise DataError(f"Fold {validation_fold} cannot validate; choose one of {folds} other than {test_fold}.")
    parts = np.full(len(judged), PARTS.index("train"), dtype=np.int8)
    parts[judged.folds == validation_fold] = PARTS.index("validation")
    parts[judged.folds == test_fold] = PARTS.index("test")
    return parts


def _with_indicators(judged: JudgedLists, training: NDArray[np.bool_]) -> NDArray[np.float32]:
    """float32 ``[D, F + M]``: the features, and 0/1 columns for the M of them that training lists lack sometimes."""
    unknown = ~np.isfinite(judged.features)
    gaps = unknown[np.repeat(training, judged.lengths)].any(axis=0)
    return np.concatenate([judged.features, unknown[:, gaps].astype(np.float32)], axis=1)


def _first_scores(judged: JudgedLists, features: NDArray[np.float32], parts: NDArray[np.int8]) -> NDArray[np.float64]:
    """float64 ``[D]``: of the first ranker, or minus the position that the file gives."""
    if (judged.initial_positions >= 0).all():
        return -judged.initial_positions.astype(np.float64)
    folds = np.repeat(judged.folds, judged.lengths)
    trained = np.repeat(parts == PARTS.index("train"), judged.lengths)
    scores = _ridge(features[trained], judged.labels[trained], features)
    for fold in np.unique(folds[trained]):
        others = trained & (folds != fold)
        scores[folds == fold] = _ridge(features[others], judged.labels[others], features[folds == fold])
    return scores


def _ridge(known: NDArray[np.float32], labels: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores float64 of rows ``asked [A, F]``, by ridge regression on rows ``known [N, F]``."""
    mean, deviation = moments(known)

    def standardised(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled = (rows.astype(np.float64) - mean) / deviation
        return np.where(np.isfinite(scaled), scaled, 0.0)

    rows = standardised(known)
    penalty = _RIDGE * np.eye(rows.shape[1])
    weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ (labels - labels.mean()))
    scores: NDArray[np.float64] = standardised(asked) @ weights
    return scores
