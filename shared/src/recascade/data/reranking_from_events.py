"""Candidate lists from a log of events: what an earlier stage, trained on earlier events, would have sent."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recascade.contracts.context import Context
from recascade.contracts.retriever import Retriever
from recascade.data.encoded import EncodedSplit
from recascade.data.events import EventSequences, offsets_of, ranges
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_features import catalogue_inputs
from recascade.data.reranking_lists import PARTS, RerankingLists
from recascade.errors import DataError

_TRAINED, _BEFORE_TEST, _TEST = 0, 1, 2
_REQUESTS_AT_ONCE = 256
# Share of candidates that their user had before, above which lists without such positives are warned of.
_MANY_HAD_BEFORE = 0.01
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Requests:
    """Q requests: what each user did next, from ``starts`` to ``ends`` (excluded) of the stream."""

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    parts: NDArray[np.int8]

    def take(self, rows: NDArray[np.int64]) -> _Requests:
        return _Requests(self.users[rows], self.starts[rows], self.ends[rows], self.parts[rows])


def lists_from_events(data: EncodedSplit, retriever: Retriever, config: ListsConfig) -> RerankingLists:
    """Send every held-out request through an earlier stage, and label its list by what the user then did.

    The split's training part is the earlier stage's alone. The events between it and the test part become the training
    and validation lists of the re-ranker, the test part its test lists; so no list is scored by a model that saw its
    outcome. A user's later requests know the outcomes of the earlier ones as history, as they would in service.

    Args:
        data: an encoded split; ``split.targets=all`` makes lists of all held-out events.
        retriever: fitted on ``data``'s training part and nothing later; asked on the CPU.
        config: how many candidates, what a request is, and so on.

    Raises:
        DataError: a part has no list left.
    """
    config.check()
    stream, regions = _stream(data)
    requests = _sample(_requests(data, stream, regions, config), config)
    items, scores = _retrieve(retriever, stream, requests, config, data.rankable)
    labels = _within(items, stream, requests.starts, requests.ends, len(data.items))
    found = items >= 0
    clicked = labels.sum(axis=1) > 0
    kept = found.any(axis=1) & (clicked | (not config.clicked_only))
    counts: dict[str, int] = {}
    unclicked: dict[str, float] = {}
    for number, part in enumerate(PARTS):
        of_part = requests.parts == number
        counts[part] = int((kept & of_part).sum())
        if not counts[part]:
            raise DataError(
                f"No {part} list holds anything that its user went on to do. Raise lists.candidates, choose another "
                "lists.initial, or hold out more events (split.validation_fraction, split.test_fraction)."
            )
        unclicked[part] = float(1 - clicked[of_part].mean())
    rows = np.flatnonzero(kept)
    requests = requests.take(rows)
    items, scores, labels, found = items[rows], scores[rows], labels[rows], found[rows]
    facts = {
        "initial": config.initial,
        "lists": counts,
        "share_without_click": unclicked,
        "share_had_before": _shares_had_before(items, labels, stream, requests, len(data.items)),
    }
    users = data.users.decode(requests.users)
    numbers = requests.starts - stream.offsets[requests.users]
    return RerankingLists(
        inputs=catalogue_inputs(
            data.item_features,
            data.item_counts,
            data.user_features,
            len(data.users),
            candidates=config.candidates,
            history=config.history,
        ),
        ids=pl.Series([f"{user}/{number}" for user, number in zip(users, numbers.tolist(), strict=True)]),
        users=requests.users,
        times=stream.timestamps[requests.starts],
        events=stream,
        history_ends=requests.starts,
        offsets=offsets_of(found.sum(axis=1)),
        items=items[found].astype(np.int32),
        scores=scores[found],
        labels=labels[found].astype(np.float32),
        features=np.zeros((int(found.sum()), 0), dtype=np.float32),
        parts=requests.parts,
        facts=facts,
    )


def _stream(data: EncodedSplit) -> tuple[EventSequences, NDArray[np.int8]]:
    """All events of the split, each user's test targets last, and which part each belongs to.

    Test targets outside the vocabulary are left out, as validation events of such items are."""
    users = len(data.users)
    known = data.events.lengths
    found = data.test.target_items >= 0
    testers = np.repeat(data.test.users, np.diff(data.test.target_offsets))[found]
    tested = np.bincount(testers, minlength=users).astype(np.int64)
    offsets = offsets_of(known + tested)
    before = ranges(offsets[:-1], known)
    after = ranges(offsets[:-1] + known, tested)
    items, times = np.empty(offsets[-1], dtype=np.int32), np.empty(offsets[-1], dtype=np.int64)
    items[before], items[after] = data.events.items, data.test.target_items[found]
    times[before], times[after] = data.events.timestamps, data.test.target_timestamps[found]
    regions = np.full(offsets[-1], _BEFORE_TEST, dtype=np.int8)
    regions[ranges(offsets[:-1], data.train_lengths)] = _TRAINED
    regions[after] = _TEST
    groups = ranges(np.zeros(users, dtype=np.int64), known + tested).astype(np.int32)
    return EventSequences(offsets, items, times, groups), regions


def _requests(data: EncodedSplit, stream: EventSequences, regions: NDArray[np.int8], config: ListsConfig) -> _Requests:
    owners = np.repeat(np.arange(stream.users), stream.lengths)
    held_out = np.flatnonzero(regions != _TRAINED)
    region, owner, time = regions[held_out], owners[held_out], stream.timestamps[held_out]
    entered = np.ones(len(held_out), dtype=bool)
    entered[1:] = (region[1:] != region[:-1]) | (owner[1:] != owner[:-1])
    if data.manifest.config.ties == "group":
        begins = entered.copy()
        begins[1:] |= time[1:] != time[:-1]
    else:
        first = np.maximum.accumulate(np.where(entered, np.arange(len(held_out)), 0))
        begins = (np.arange(len(held_out)) - first) % config.window == 0
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(held_out))
    parts = np.where(region[starts] == _TEST, PARTS.index("test"), PARTS.index("train")).astype(np.int8)
    open_requests = np.flatnonzero(region[starts] == _BEFORE_TEST)
    if data.manifest.config.protocol == "temporal":
        times = time[starts[open_requests]]
        late = times > np.quantile(times, 1 - config.validation_share) if len(times) else times.astype(bool)
    else:
        drawn = np.random.default_rng(config.seed).random(stream.users) < config.validation_share
        late = drawn[owner[starts[open_requests]]]
    parts[open_requests[late]] = PARTS.index("validation")
    return _Requests(owner[starts], held_out[starts], held_out[ends - 1] + 1, parts)


def _sample(requests: _Requests, config: ListsConfig) -> _Requests:
    if not config.most_lists:
        return requests
    random = np.random.default_rng(config.seed)
    places = random.permutation(len(requests.users))
    kept = [places[requests.parts[places] == part][: config.most_lists] for part in range(len(PARTS))]
    return requests.take(np.sort(np.concatenate(kept)))


def _retrieve(
    retriever: Retriever,
    stream: EventSequences,
    requests: _Requests,
    config: ListsConfig,
    rankable: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Items int64 ``[Q, n]`` (-1 where a list is shorter) and their scores."""
    items = np.full((len(requests.users), config.candidates), -1, dtype=np.int64)
    scores = np.full(items.shape, np.nan, dtype=np.float32)
    device = str(getattr(retriever, "device", "cpu"))
    candidates = None if rankable is None else torch.from_numpy(rankable).to(device)
    for start in range(0, len(items), _REQUESTS_AT_ONCE):
        rows = slice(start, start + _REQUESTS_AT_ONCE)
        context = _context(stream, requests.users[rows], requests.starts[rows]).to(device)
        with torch.inference_mode():
            best = retriever.retrieve(
                context, config.candidates, exclude_seen=config.exclude_seen, candidates=candidates
            )
        items[rows], scores[rows] = best.items.cpu().numpy(), best.scores.cpu().numpy()
    return items, scores


def _context(stream: EventSequences, users: NDArray[np.int64], ends: NDArray[np.int64]) -> Context:
    """The requests that know each user's events up to ``ends``."""
    lengths = ends - stream.offsets[users]
    index = ranges(stream.offsets[users], lengths)
    return Context(
        users=torch.from_numpy(users),
        items=torch.from_numpy(stream.items[index].astype(np.int64)),
        timestamps=torch.from_numpy(stream.timestamps[index]),
        offsets=torch.from_numpy(offsets_of(lengths)),
        now=torch.from_numpy(stream.timestamps[ends]),
    )


def _within(
    items: NDArray[np.int64],
    stream: EventSequences,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    catalogue: int,
) -> NDArray[np.bool_]:
    """bool ``[Q, n]``: whether the candidate is among the events from ``starts`` to ``ends`` (excluded)."""
    lengths = ends - starts
    events = stream.items[ranges(starts, lengths)].astype(np.int64)
    wanted = np.unique(np.repeat(np.arange(len(lengths)), lengths) * catalogue + events)
    keys = np.arange(len(items))[:, None] * catalogue + items
    within: NDArray[np.bool_] = np.isin(keys, wanted) & (items >= 0)
    return within


def _shares_had_before(
    items: NDArray[np.int64], labels: NDArray[np.bool_], stream: EventSequences, requests: _Requests, catalogue: int
) -> dict[str, float]:
    """Which share of the candidates, and of the positives, stands in the user's own history; a warning where only
    candidates do."""
    had = np.zeros(items.shape, dtype=bool)
    for start in range(0, len(items), _REQUESTS_AT_ONCE):
        rows = slice(start, start + _REQUESTS_AT_ONCE)
        begins = stream.offsets[requests.users[rows]]
        had[rows] = _within(items[rows], stream, begins, requests.starts[rows], catalogue)
    share = float(had.sum() / (items >= 0).sum())
    positives = int(labels.sum())
    repeated = int((had & labels).sum())
    if share > _MANY_HAD_BEFORE and positives and not repeated:
        _log.warning(
            "%.1f %% of the lists' candidates are items that their user had before, and no positive is: nobody here "
            "has an item twice, and any order that puts such candidates last looks good. Set lists.exclude_seen=true "
            "(in a cascade, evaluation.exclude_seen=true).",
            100 * share,
        )
    return {"candidates": share, "positives": repeated / positives if positives else 0.0}
