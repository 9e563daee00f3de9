"""The lists of a re-ranking run: made once from whatever the data set holds, and kept for all runs that share them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recascade.bench.config import RunConfig
from recascade.bench.ground import Ground, data_record, ground_of_split
from recascade.bench.registry import find_method
from recascade.contracts.method import Experiment
from recascade.contracts.retriever import Retriever
from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit, HeldOut
from recascade.data.home import home
from recascade.data.lists import read_lists
from recascade.data.reranking_config import ListsConfig
from recascade.data.reranking_from_events import lists_from_events
from recascade.data.reranking_from_impressions import lists_from_impressions
from recascade.data.reranking_from_judged import lists_from_judged
from recascade.data.reranking_lists import RerankingLists
from recascade.data.sources import resolve
from recascade.data.split import Split, cached_split
from recascade.errors import ConfigurationError
from recascade.files import write_folder_atomically
from recascade.training.config import TrainerConfig

# Part of the cache's name: lists that were made in another way must not be found.
_LAYOUT = 1


@dataclass(frozen=True)
class PreparedLists:
    """Lists to learn from and to measure on.

    Attributes:
        ground: for the record.
        rounds: name → lists; several where each fold of judged lists is tested in turn, and a method is fitted anew in
            each round. No test list is in two of them.
    """

    ground: Ground
    rounds: Mapping[str, RerankingLists]


def prepared_lists(config: RunConfig) -> PreparedLists:
    """The lists of a run's data set and settings, made now or found where they were made before.

    A data set with ``lists.parquet`` is taken as judged lists, one with interactions as a log of events, one with
    impressions alone as logged impressions.

    Raises:
        DataError: the data set has none of them, or no list comes about.
        ConfigurationError: ``lists.initial`` is no retrieval method, or ``trainer.refit`` is set.
    """
    if config.trainer.refit:
        raise ConfigurationError("trainer.refit is not possible for re-ranking; leave it out.")
    settings = config.lists or ListsConfig()
    dataset = resolve(config.data)
    if "lists" in dataset.tables:
        return _judged(dataset, settings)
    if "interactions" in dataset.tables:
        return _from_events(config, dataset, settings)
    return _shown(config, dataset, settings)


def _from_events(config: RunConfig, dataset: Dataset, settings: ListsConfig) -> PreparedLists:
    if find_method(settings.initial).stage != "retrieval":
        raise ConfigurationError(
            f"lists.initial is {settings.initial!r}, which serves {find_method(settings.initial).stage}; name a "
            "retrieval method, as item-knn."
        )
    split = cached_split(dataset, config.split)
    # The split's fingerprint says nothing of the catalogue, the users and further columns, which the lists hold too.
    identity = [_LAYOUT, split.manifest.fingerprint, dataset.fingerprint, asdict(settings)]
    folder = _folder(dataset, identity)
    if not folder.is_dir():
        with write_folder_atomically(folder) as temporary:
            data = encode(split)
            retriever = _fit_initial(data, split, settings, temporary / "initial")
            lists_from_events(data, retriever, settings).save(temporary / "all")
    lists = RerankingLists.load(folder / "all")
    ground = ground_of_split(split.manifest)
    record = {**ground.split, **_record(identity, settings, [lists])}
    return PreparedLists(Ground(ground.data, record), {"all": lists})


def _judged(dataset: Dataset, settings: ListsConfig) -> PreparedLists:
    judged = read_lists(dataset.table_path("lists"))
    folds = sorted(set(judged.folds.tolist())) if settings.test_fold < 0 else [settings.test_fold]
    rounds = {f"fold-{fold}": lists_from_judged(judged, settings, test_fold=fold) for fold in folds}
    identity = [_LAYOUT, dataset.fingerprint, asdict(settings)]
    ties = "the earlier document first"
    record = _unsplit("folds in turn" if len(folds) > 1 else f"fold {folds[0]}", ties)
    record |= _record(identity, settings, list(rounds.values()))
    return PreparedLists(Ground(data_record(dataset), record), rounds)


def _shown(config: RunConfig, dataset: Dataset, settings: ListsConfig) -> PreparedLists:
    items = dataset.items()
    fractions = {name: getattr(config.split, name) for name in ("validation_fraction", "test_fraction")}
    lists = lists_from_impressions(
        pl.read_parquet(dataset.table_path("impressions")),
        None if items is None else items.collect(),
        settings,
        **fractions,
    )
    identity = [_LAYOUT, dataset.fingerprint, asdict(settings), fractions]
    record = _unsplit("temporal", "as shown") | _record(identity, settings, [lists])
    return PreparedLists(Ground(data_record(dataset), record), {"all": lists})


def _folder(dataset: Dataset, identity: list[Any]) -> Path:
    return home() / "lists" / f"{dataset.name}-{_fingerprint(identity)}"


def _fingerprint(identity: list[Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _unsplit(protocol: str, ties: str) -> dict[str, Any]:
    """The parts of a split's record for data that are not split by events."""
    return {
        "protocol": protocol,
        "ties": ties,
        "cold_items": "none",
        "catalogue": "each list's own candidates",
        "filters": {},
        "tied_target_share": 0.0,
    }


def _record(identity: list[Any], settings: ListsConfig, rounds: list[RerankingLists]) -> dict[str, Any]:
    facts = rounds[0].facts
    tested = sum(lists.facts["lists"]["test"] for lists in rounds)
    # Lists of other builders, and lists that were kept by an earlier version, do not have all of them.
    shares = {name: facts.get(name) for name in ("share_without_click", "share_had_before")}
    made = {"earlier_stage": facts["initial"], **shares}
    return {
        "fingerprint": _fingerprint(identity),
        "counts": {f"{part}_lists": count for part, count in facts["lists"].items()} | {"test_lists": tested},
        "lists": asdict(settings) | made,
    }


def _fit_initial(data: EncodedSplit, split: Split, settings: ListsConfig, folder: Path) -> Retriever:
    """The earlier stage, on the split's training part alone.

    A trained method chooses its weights by each user's last training event, so that not even that choice knows the
    events of which lists are made.
    """
    method = find_method(settings.initial)
    folder.mkdir(parents=True)
    experiment = Experiment(
        config=method.config(),
        trainer=TrainerConfig(progress=False, tensorboard=False),
        data=_last_held_out(data) if method.trained else data,
        split=split,
        seed=settings.seed,
        directory=folder,
        exclude_seen=settings.exclude_seen,
    )
    return method.run(experiment)


def _last_held_out(data: EncodedSplit) -> EncodedSplit:
    """The training events alone; the last of each user who has two is what validation asks for."""
    users = np.flatnonzero(data.train_lengths > 1)
    ends = data.train_ends.copy()
    ends[users] -= 1
    targets = ends[users]
    asked = HeldOut(
        users=users,
        history_ends=ends[users],
        target_offsets=np.arange(len(users) + 1),
        target_items=data.events.items[targets],
        target_timestamps=data.events.timestamps[targets],
    )
    return replace(data, train_ends=ends, validation=asked)
