"""What a re-ranking request says, checked, and what it becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recascade.contracts.context import Context
from recascade.data.events import offsets_of
from recascade.data.reranking_batch import RerankingBatch
from recascade.data.reranking_inputs import RerankingInputs
from recascade.serving.parameters import RequestError, check_names, text, whole_number

_NAMES = ("user", "history", "candidates", "time", "k")


@dataclass(frozen=True)
class RerankRequest:
    """One list to put in order.

    Attributes:
        user: number in the user table, -1 for unknown.
        history: numbers of the past items, oldest first, -1 for unknown.
        times: of the past items, seconds.
        now: of the request, seconds.
        names: the candidates as the request named them, in the order of the earlier stage.
        items: their numbers, -1 for unknown.
        scores: of the earlier stage; NaN where it gave none.
        features: float32 ``[n, F2]`` that came with the candidates; NaN where unknown.
        count: candidates to return.
    """

    user: int
    history: list[int]
    times: list[int]
    now: int
    names: list[str]
    items: list[int]
    scores: list[float]
    features: NDArray[np.float32]
    count: int


def read_request(
    values: Mapping[str, Any], inputs: RerankingInputs, items: Mapping[str, int], users: Mapping[str, int]
) -> RerankRequest:
    """Check a request.

    Unknown users and items are served with what is known of nobody and of no item in particular; missing and infinite
    features read as the mean.

    Args:
        values: ``candidates``, each ``{"item": id, "score": number, "features": [numbers]}`` of which the last two may
            be missing; optional ``user``, ``history`` (each ``{"item": id, "time": seconds}``, oldest first), ``time``
            and ``k``.
        inputs: of the model.
        items: identifier → number.
        users: identifier → number.

    Raises:
        RequestError: what is wrong, and where.
    """
    check_names(values, _NAMES)
    candidates = _objects(values, "candidates", ("item", "score", "features"), least=1, most=inputs.candidates)
    names = [text(candidate, "item") for candidate in candidates]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise RequestError(f"Candidate {twice!r} stands more than once; send it once, at its best place.")
    history = _objects(values, "history", ("item", "time"), least=0, most=10_000) if "history" in values else []
    times = [whole_number(event, "time", 0, 0, 1 << 40) for event in history]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise RequestError("The events of 'history' are not in the order of their 'time'; send the oldest first.")
    return RerankRequest(
        user=users.get(text(values, "user"), -1) if "user" in values else -1,
        history=[items.get(text(event, "item"), -1) for event in history],
        times=times,
        now=whole_number(values, "time", times[-1] if times else 0, 0, 1 << 40),
        names=names,
        items=[items.get(name, -1) for name in names],
        scores=[_number(candidate, "score", place) for place, candidate in enumerate(candidates)],
        features=_features(candidates, len(inputs.feature_mean)),
        count=whole_number(values, "k", len(names), 1, len(names)),
    )


def batch_of(requests: Sequence[RerankRequest], inputs: RerankingInputs) -> RerankingBatch:
    """The requests as one batch, padded to the longest."""
    lengths = np.array([len(request.history) for request in requests], dtype=np.int64)
    width = max(len(request.items) for request in requests)
    items = np.full((len(requests), width), -1, dtype=np.int64)
    scores = np.full((len(requests), width), -np.inf, dtype=np.float32)
    features = np.full((len(requests), width, len(inputs.feature_mean)), np.nan, dtype=np.float32)
    # A score below single precision's range would become -inf, which means padding.
    most = np.finfo(np.float32).max
    for row, request in enumerate(requests):
        length = len(request.items)
        items[row, :length] = request.items
        scores[row, :length] = np.clip(np.array(request.scores, dtype=np.float64), -most, most)
        features[row, :length] = request.features
    context = Context(
        users=torch.tensor([request.user for request in requests]),
        items=torch.tensor([item for request in requests for item in request.history], dtype=torch.int64),
        timestamps=torch.tensor([time for request in requests for time in request.times], dtype=torch.int64),
        offsets=torch.from_numpy(offsets_of(lengths)),
        now=torch.tensor([request.now for request in requests]),
    )
    given = torch.from_numpy(features) if features.shape[2] else None
    return inputs.batch(context, torch.from_numpy(items), torch.from_numpy(scores), given)


def _objects(
    values: Mapping[str, Any], name: str, known: Sequence[str], *, least: int, most: int
) -> list[Mapping[str, Any]]:
    found = values.get(name)
    if not isinstance(found, list) or not least <= len(found) <= most:
        raise RequestError(f"The parameter {name!r} must be a list of {least} to {most} objects.")
    for place, each in enumerate(found):
        if not isinstance(each, dict):
            raise RequestError(f"Entry {place} of {name!r} (counted from 0) must be an object with {', '.join(known)}.")
        check_names(each, known)
    return found


def _number(candidate: Mapping[str, Any], name: str, place: int) -> float:
    value = candidate.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"The {name} of candidate {place} (counted from 0) is {value!r}; it must be a number.")
    return float(value)


def _features(candidates: Sequence[Mapping[str, Any]], count: int) -> NDArray[np.float32]:
    """float32 ``[n, count]``, NaN for null."""
    rows = np.full((len(candidates), count), np.nan, dtype=np.float32)
    for place, candidate in enumerate(candidates):
        given = candidate.get("features", [])
        if not isinstance(given, list) or len(given) not in ({0, count} if count else {0}):
            raise RequestError(
                f"The features of candidate {place} (counted from 0) must be a list of {count} numbers, or be left out."
            )
        numbers = [math.nan if value is None else value for value in given]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise RequestError(
                f"A feature of candidate {place} (counted from 0) is no number; send null where unknown."
            )
        # In double precision first: what is too large for single precision is infinite, and reads as unknown.
        with np.errstate(over="ignore"):
            rows[place, : len(numbers)] = np.array(numbers, dtype=np.float64)
    return rows
