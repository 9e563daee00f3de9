"""CS3 in the benchmark: over the training events in the order of time, then the best items of the whole catalogue.

Next-item data hold positives only; impressions with label 0 are sampled for them as for a prepared stream, without
the positives of items that are new in their second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recascade.contracts.method import FIT_FILE, Experiment
from recascade.data.encoded import EncodedSplit
from recascade.data.event_batch import EventBatch
from recascade.data.events import ranges
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.impression_sampling import ImpressionSampler
from recascade.errors import DataError
from recascade.files import read_json, write_json
from recascade_cs3.catalogue import Catalogue
from recascade_cs3.checkpoints import Position, latest_checkpoint, restore_checkpoint, save_checkpoint
from recascade_cs3.config import CS3Config
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.retriever import CS3Retriever
from recascade_cs3.run_folder import CATALOGUE_FOLDER, COST_FILE, ONLINE_FOLDER, write_model

# Positives that are put in order and completed by impressions at once.
_POSITIVES_AT_ONCE = 1 << 17
CHECKPOINT_EVENTS = 1_000_000


def fit(experiment: Experiment) -> CS3Retriever:
    """Learn the training events as a stream, once (or in several passes with tables emptied before each).

    An interrupted fit goes on from its last checkpoint in the run directory, where ``recascade serve`` finds the
    learner afterwards.

    Raises:
        DataError: the events have no times, so that there is no order to learn them in.
    """
    config: CS3Config = experiment.config
    data = experiment.data
    folder = experiment.directory / ONLINE_FOLDER
    users = GrowingVocabulary(data.users.decode(np.arange(len(data.users))), kind="user")
    items = GrowingVocabulary(data.items.decode(np.arange(len(data.items))), kind="item")
    if not (folder / CATALOGUE_FOLDER).exists():
        Catalogue(users.ids.to_list(), items.ids.to_list(), data.user_features, data.item_features).save(
            folder / CATALOGUE_FOLDER
        )
        write_model(folder, config, experiment.seed)
    learner = OnlineLearner(
        config, seed=experiment.seed, user_features=data.user_features, item_features=data.item_features
    )
    learner.grow(len(users), len(items))
    checkpoint = latest_checkpoint(folder)
    done = restore_checkpoint(checkpoint, learner).offset if checkpoint is not None else 0
    cost = read_json(folder / COST_FILE) if checkpoint is not None else {"seconds": 0.0, "cpu_seconds": 0.0}
    begin, begin_cpu = time.perf_counter(), time.process_time()

    def save(offset: int) -> None:
        spent = {
            "seconds": cost["seconds"] + time.perf_counter() - begin,
            "cpu_seconds": cost["cpu_seconds"] + time.process_time() - begin_cpu,
        }
        write_json(folder / COST_FILE, spent)
        save_checkpoint(folder, learner, Position(offset, {}), users, items)

    offset, saved = 0, done
    for number in range(config.passes):
        for first, batch in enumerate(training_batches(data, config, experiment.seed)):
            offset += len(batch)
            if offset <= done:
                continue
            if number and not first and config.tables.reset_each_pass:
                learner.start_pass()
            learner.tick(batch)
            if offset - saved >= CHECKPOINT_EVENTS:
                save(offset)
                saved = offset
    save(offset)
    spent = read_json(folder / COST_FILE)
    facts = {
        "epochs": config.passes,
        "best_epoch": config.passes,
        "parameters": sum(parameter.numel() for parameter in learner.module.parameters()),
        "targets_per_second": offset / max(spent["seconds"], 1e-9),
        "fit_seconds": spent["seconds"],
        "fit_cpu_seconds": spent["cpu_seconds"],
    }
    write_json(experiment.directory / FIT_FILE, facts)
    return CS3Retriever(learner, len(data.items))


def training_batches(data: EncodedSplit, config: CS3Config, seed: int) -> Iterator[EventBatch]:
    """The training events of all users in the order of time, with sampled impressions, in micro-batches.

    Inside one second the order is random, never that of the file. With impressions, events whose item nobody had in an
    earlier second are left out.

    Args:
        data: the encoded split.
        config: batch size, impressions per event and how they are drawn.
        seed: of the order inside a second and of the impressions.

    Raises:
        DataError: the events have no times, or no item comes again in a later second.
    """
    users, items, timestamps = _in_order(data, seed)
    sampler = ImpressionSampler(config.negatives, config.negative_popularity, seed)
    random = np.random.default_rng((seed, 1))
    offset = 0
    left = _batch(0, users[:0], items[:0], timestamps[:0], np.zeros(0, np.float32))
    for start, end in _stretches(timestamps):
        seen, rows, drawn = sampler.sample(users[start:end], items[start:end], timestamps[start:end])
        # Without impressions there are no candidates that a positive could lie outside of.
        positives = np.flatnonzero(seen) if config.negatives else np.arange(end - start)
        sources = np.concatenate([positives, rows])
        stretch_users, times = users[start:end][sources], timestamps[start:end][sources]
        stretch_items = np.concatenate([items[start:end][positives], drawn])
        labels = np.zeros(len(sources), dtype=np.float32)
        labels[: len(positives)] = 1
        order = np.lexsort((random.random(len(times)), times))
        stretch = _batch(left.next_offset, stretch_users[order], stretch_items[order], times[order], labels[order])
        left = left.followed_by(stretch)
        whole = end == len(users)
        while len(left) >= config.batch or (whole and len(left)):
            boundary = min(offset + config.batch, left.next_offset)
            yield left.rows(offset, boundary)
            left = left.rows(boundary, left.next_offset)
            offset = boundary
    if not offset:
        raise DataError(
            "No item of the training events comes again in a later second, so there are no impressions to sample; "
            "set model.loss=sampled_softmax model.negatives=0, which needs none."
        )


def _in_order(data: EncodedSplit, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    lengths = data.train_lengths
    places = ranges(data.events.offsets[:-1], lengths)
    timestamps = np.asarray(data.events.timestamps)[places]
    if not timestamps.any():
        raise DataError(
            "CS3 learns events in the order of time, but the events of this data set have no timestamps; "
            "choose a data set with times, or another method."
        )
    users = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((np.random.default_rng((seed, 0)).random(len(users)), timestamps))
    return users[order], np.asarray(data.events.items)[places][order].astype(np.int64), timestamps[order]


def _stretches(timestamps: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of many positives that cut no second in two, which the sampler asks for."""
    start = 0
    while start < len(timestamps):
        end = min(start + _POSITIVES_AT_ONCE, len(timestamps))
        end = int(np.searchsorted(timestamps, timestamps[end - 1], side="right"))
        yield start, end
        start = end


def _batch(
    offset: int,
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    labels: NDArray[np.float32],
) -> EventBatch:
    """Events from an offset on, whose labels are known at once; they have no identifiers to be repeated under."""
    ids = np.arange(offset, offset + len(users))
    return EventBatch(offset, offset + len(users), ids, users, items, timestamps, labels, timestamps)
