"""The planted world as lists for re-rankers, in the order of a point-wise initial ranker."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recascade.data.events import EventSequences, offsets_of, ranges
from recascade.data.reranking_inputs import RerankingInputs
from recascade.data.reranking_lists import PARTS, RerankingLists
from recascade_psad.planted import AVERSIONS, Array, PlantedWorld

_INITIAL_SHARE, _TRAIN_SHARE, _VALIDATION_SHARE = 0.2, 0.6, 0.1
_INITIAL_EVENTS = 3
_RIDGE = 10.0
_FIRST_REQUEST = 1_704_067_200  # 2024-01-01
_SECONDS_BETWEEN = 60


def planted_lists(world: PlantedWorld) -> RerankingLists:
    """Re-ranking's view of a planted world: a fifth of its lists train the initial ranker and are not seen again;
    60 % train re-rankers, 10 % validate, 10 % test.

    The initial ranker is a ridge regression of the picks on the candidate's vector and the share of its category among
    the last three events: point-wise, and short of memory, as earlier stages are. Column ``users`` of the lists is the
    row in the world.
    """
    requests, candidates = world.candidates.shape
    initial = round(_INITIAL_SHARE * requests)
    scores = _initial_scores(world, initial)
    order = np.argsort(-scores, axis=1, kind="stable")[initial:]
    rows = np.arange(initial, requests)
    bounds = (np.cumsum([_TRAIN_SHARE, _VALIDATION_SHARE]) * requests).round() + initial
    parts = np.searchsorted(bounds, rows, side="right").astype(np.int8)
    times = _FIRST_REQUEST + _SECONDS_BETWEEN * np.arange(requests, dtype=np.int64)
    history = world.history.shape[1]
    known = np.arange(history) >= history - world.lengths[:, None]

    def in_order(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.take_along_axis(values[initial:], order, 1).ravel()

    return RerankingLists(
        inputs=RerankingInputs(
            item_fields=(world.categories[:, None] + 1).astype(np.int32),
            field_sizes=(int(world.categories.max()) + 2,),
            item_features=((world.vectors - world.vectors.mean(0)) / world.vectors.std(0)).astype(np.float32),
            user_profiles=(world.aversions[:, None] + 1).astype(np.int32),
            profile_sizes=(len(AVERSIONS) + 1,),
            feature_mean=np.zeros(0, dtype=np.float32),
            feature_deviation=np.ones(0, dtype=np.float32),
            candidates=candidates,
            history=history,
        ),
        ids=pl.Series([f"planted/{row}" for row in rows.tolist()]),
        users=rows,
        times=times[rows],
        events=EventSequences(
            offsets=offsets_of(world.lengths),
            items=world.history[known].astype(np.int32),
            timestamps=(times[:, None] - (60 * world.ages).astype(np.int64))[known],
            groups=ranges(np.zeros(requests, dtype=np.int64), world.lengths).astype(np.int32),
        ),
        history_ends=offsets_of(world.lengths)[rows + 1],
        offsets=offsets_of(np.full(len(rows), candidates)),
        items=in_order(world.candidates).astype(np.int32),
        scores=in_order(scores).astype(np.float32),
        labels=in_order(world.picked).astype(np.float32),
        features=np.zeros((len(rows) * candidates, 0), dtype=np.float32),
        parts=parts,
        facts={
            "synthetic": True,
            "initial": "ridge regression",
            "lists": {part: int((parts == number).sum()) for number, part in enumerate(PARTS)},
        },
    )


def _initial_scores(world: PlantedWorld, trained: int) -> Array:
    """float64 ``[Q, n]`` of the initial ranker, fitted on the first ``trained`` lists."""
    latest = world.categories[world.history[:, -_INITIAL_EVENTS:]]
    share = (latest[:, None] == world.categories[world.candidates][..., None]).mean(2)
    inputs = np.concatenate([share[..., None], world.vectors[world.candidates]], 2)
    known = inputs[:trained].reshape(-1, inputs.shape[2])
    targets = world.picked[:trained].ravel() - world.picked[:trained].mean()
    weights = np.linalg.solve(known.T @ known + _RIDGE * np.eye(known.shape[1]), known.T @ targets)
    scores: Array = inputs @ weights
    return scores
