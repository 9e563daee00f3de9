"""An online run in a folder: a stream, its learner, the ledger of predictions, checkpoints, and the result.

Folder: ``config.json`` (written first), ``catalogue/`` (features), ``predictions/`` (one row per event),
``probes.json``, ``checkpoints/`` (the newest), ``result.json`` (written last). A run that was killed goes on from its
last checkpoint to the same result, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recascade.contracts.checks import check_at_least
from recascade.data.dataset import Dataset
from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.data.home import home
from recascade.data.stream import EventStream
from recascade.data.stream_config import StreamConfig
from recascade.data.stream_preparation import prepare_stream, read_stream_facts
from recascade.errors import ConfigurationError, DataError
from recascade.evaluation.prequential import PrequentialLedger
from recascade.evaluation.prequential_metrics import summarise
from recascade.files import read_json, write_json
from recascade.settings import compose_sections, flatten
from recascade_cs3.catalogue import Catalogue
from recascade_cs3.checkpoints import (
    Position,
    latest_checkpoint,
    load_vocabularies,
    restore_checkpoint,
    save_checkpoint,
)
from recascade_cs3.config import CS3Config
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.probe import probe
from recascade_cs3.run_folder import CATALOGUE_FOLDER, write_model

RESULT_FILE = "result.json"
_CONFIG_FILE = "config.json"
_PROBES_FILE = "probes.json"


@dataclass
class PaceConfig:
    """How often an online run looks up from its work; nothing here changes what it learns.

    Attributes:
        checkpoint_events: source rows between checkpoints; 50,000.
        probe_events: source rows between looks at retrieval over the whole catalogue; 10,000; 0 for none.
    """

    checkpoint_events: int = 50_000
    probe_events: int = 10_000

    def check(self) -> None:
        """Refuse values that cannot work."""
        check_at_least("pace.checkpoint_events", self.checkpoint_events, 1)
        check_at_least("pace.probe_events", self.probe_events, 0)


@dataclass(frozen=True)
class OnlineConfig:
    """All that decides an online run.

    Attributes:
        data: name or path of the data set.
        seed: of the learner.
        model: the method.
        stream: labels and order.
        pace: of checkpoints and probes.
    """

    data: str
    seed: int
    model: CS3Config
    stream: StreamConfig
    pace: PaceConfig


SECTIONS = {"model": CS3Config, "stream": StreamConfig, "pace": PaceConfig}
# What ``recascade run`` reads, and the key that an online run reads in its place.
_OF_THE_STREAM = {
    "model.batch": "stream.batch",
    "model.negatives": "stream.negatives",
    "model.negative_popularity": "stream.negative_popularity",
}


def compose_online(data: str, seed: int, overrides: dict[str, Any]) -> OnlineConfig:
    """Defaults and overrides by dotted key, as ``{"model.cts.alpha": 0.9, "stream.label": "rating"}``.

    The learner's micro-batch is the stream's.

    Raises:
        ConfigurationError: an unknown key, a value that cannot work, or a key that only ``recascade run`` reads.
    """
    for key, read in _OF_THE_STREAM.items():
        if key in overrides:
            raise ConfigurationError(f"{key} is for 'recascade run'; an online run reads {read}: set that.")
    if overrides.get("model.passes", 1) != 1:
        raise ConfigurationError(
            f"model.passes is {overrides['model.passes']}; an online run learns its stream once, so leave it at 1."
        )
    sections = compose_sections(SECTIONS, overrides)
    sections["model"].batch = sections["stream"].batch
    return OnlineConfig(data, seed, **sections)


def run_online(
    config: OnlineConfig, dataset: Dataset, directory: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Learn a whole stream, once, and measure every prediction that was made on the way.

    Args:
        config: of the run.
        dataset: the log.
        directory: of the run; what an interrupted run of the same configuration left there is gone on with.
        progress: told the rows done with and the rows there are, after each micro-batch.

    Returns:
        The content of ``result.json``.

    Raises:
        DataError: the folder holds a run of another configuration, all labels are the same and the loss is the binary
            cross-entropy, or the stream is faulty; the position is kept.
    """
    if (directory / RESULT_FILE).exists():
        _claim(config, dataset, directory)
        finished: dict[str, Any] = read_json(directory / RESULT_FILE)
        return finished
    source = prepare_stream(dataset, config.stream, home() / "streams")
    facts = read_stream_facts(source)
    if facts["positives"] in (0, facts["events"]) and config.model.loss == "binary_cross_entropy":
        raise DataError(
            "All events of the stream have one label, so there is nothing to tell apart; name a column by stream.label "
            "(and stream.positive_from), or sample impressions with stream.negatives=1."
        )
    _claim(config, dataset, directory)
    learner, users, items, position = open_learner(config, dataset, directory)
    stream = EventStream(source, config.stream, users, items)
    ledger = PrequentialLedger(directory)
    ledger.truncate(position.offset)
    if position.stream:
        stream.restore(position.stream)
    probes = _Probes(directory / _PROBES_FILE, config.pace.probe_events, position.offset)
    begin, begin_cpu, first = time.perf_counter(), time.process_time(), learner.scored
    offset = saved = position.offset
    learning_cpu = 0
    for batch in stream.batches(position.offset):
        probes.look(learner, batch)
        before = time.thread_time_ns()
        predictions = learner.tick(batch)
        learning_cpu += time.thread_time_ns() - before
        if len(batch):
            ledger.append(
                batch.offset,
                batch.users,
                batch.items,
                batch.timestamps,
                batch.labels,
                predictions.probabilities,
                predictions.ranker_probabilities,
            )
        offset = batch.next_offset
        if offset - saved >= config.pace.checkpoint_events:
            ledger.flush()
            probes.save()
            # The stream's state costs as much as a fifth of a micro-batch, so it is asked for here alone.
            save_checkpoint(directory, learner, Position(offset, stream.state()), users, items)
            saved = offset
        if progress is not None:
            progress(offset, facts["events"])
    ledger.flush()
    probes.save()
    save_checkpoint(directory, learner, Position(offset, stream.state()), users, items)
    events = learner.scored - first
    result = {
        "format": 1,
        "data": {key: facts[key] for key in ("data_set", "data", "synthetic", "terms", "sampled_negatives")}
        | {"positives_left_out": facts["positives_left_out"]},
        "prequential": summarise(ledger.table()),
        "retrieval": probes.found,
        "left_out": stream.counts,
        "waiting": len(learner.waiting),
        "cost": {
            "events": events,
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - begin_cpu,
            "learning_cpu_seconds": learning_cpu / 1e9,
            "events_per_cpu_second": events / max(learning_cpu / 1e9, 1e-9),
        },
        "parameters": sum(parameter.numel() for parameter in learner.module.parameters()),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    write_json(directory / RESULT_FILE, result)
    return result


def open_learner(
    config: OnlineConfig, dataset: Dataset, directory: Path
) -> tuple[OnlineLearner, GrowingVocabulary, GrowingVocabulary, Position]:
    """The learner of a run, fresh or as its last checkpoint left it, with its vocabularies and its position."""
    folder = directory / CATALOGUE_FOLDER
    if not folder.exists():
        Catalogue.of(dataset).save(folder)
    catalogue = Catalogue.load(folder)
    learner = OnlineLearner(
        config.model,
        seed=config.seed,
        delay_batches=config.stream.delay_batches,
        user_features=catalogue.user_features,
        item_features=catalogue.item_features,
    )
    checkpoint = latest_checkpoint(directory)
    if checkpoint is not None:
        return learner, *load_vocabularies(checkpoint), restore_checkpoint(checkpoint, learner)
    learner.grow(len(catalogue.users), len(catalogue.items))
    users, items = GrowingVocabulary(catalogue.users, kind="user"), GrowingVocabulary(catalogue.items, kind="item")
    return learner, users, items, Position(0, {})


def _claim(config: OnlineConfig, dataset: Dataset, directory: Path) -> None:
    """Write the configuration into an empty folder, or make sure that the folder's run is this one."""
    wanted = {**asdict(config), "data": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
    path = directory / _CONFIG_FILE
    if not path.exists():
        write_model(directory, config.model, config.seed)
        write_json(path, wanted)
        return
    present, wanted = flatten(read_json(path)), flatten(wanted)
    for key in sorted(present.keys() | wanted.keys()):
        if present.get(key) != wanted.get(key) and not key.startswith("pace."):
            raise DataError(
                f"{directory} holds a run with {key}={present.get(key)}, not {wanted.get(key)}; go on with that "
                "configuration, or choose another folder."
            )


class _Probes:
    """Looks at retrieval at every ``every``-th source row; what was found after a lost position is found again."""

    def __init__(self, path: Path, every: int, offset: int) -> None:
        self._path = path
        self._every = every
        found = read_json(path) if path.exists() else []
        self.found: list[dict[str, Any]] = [facts for facts in found if facts["offset"] < offset]

    def look(self, learner: OnlineLearner, batch: Any) -> None:
        """Probe before a batch that contains a multiple of ``every`` (row 0 apart, when nothing is known)."""
        if self._every and batch.offset // self._every < batch.next_offset // self._every:
            learner.make_room(batch)
            self.found.append(probe(learner, batch))

    def save(self) -> None:
        write_json(self._path, self.found)
