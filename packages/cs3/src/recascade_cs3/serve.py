"""``recascade serve cs3 RUN``: the service of a run's newest checkpoint, and of newer ones as they come."""

from __future__ import annotations

import gc
import importlib.util
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import torch

from recascade.data.growing_vocabulary import GrowingVocabulary
from recascade.errors import DataError, RecascadeError
from recascade.serving.embedding_store import EmbeddingStore, InProcessStore
from recascade.serving.faiss_index import FaissIndex
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.http import application
from recascade.serving.item_index import FlatIndex, ItemIndex
from recascade.serving.metrics import Metrics
from recascade.serving.one_thread import compute_on_one_thread
from recascade.serving.redis_store import RedisStore
from recascade.serving.usearch_index import UsearchIndex
from recascade.settings import compose_sections
from recascade_cs3.catalogue import Catalogue
from recascade_cs3.checkpoints import latest_checkpoint, load_vocabularies, restore_checkpoint
from recascade_cs3.learner import OnlineLearner
from recascade_cs3.run_folder import CATALOGUE_FOLDER, ONLINE_FOLDER, read_model
from recascade_cs3.serve_config import ServeConfig
from recascade_cs3.service import CS3Service
from recascade_cs3.snapshot import Snapshot, encode_users, take_snapshot

if TYPE_CHECKING:
    from starlette.applications import Starlette

_IDS_AT_ONCE = 65_536
_log = logging.getLogger(__name__)


def serve(directory: Path, options: Mapping[str, Any]) -> Starlette:
    """The application of a run.

    Args:
        directory: of ``recascade cs3 learn``, or of one run of ``recascade run cs3``.
        options: dotted keys, as ``{"serve.index": "flat"}``; see ``ServeConfig``.

    Raises:
        DataError: the folder holds no run with a checkpoint.
        ConfigurationError: an unknown option, or a value that cannot work.
    """
    config: ServeConfig = compose_sections({"serve": ServeConfig}, options)["serve"]
    compute_on_one_thread()
    folder = directory / ONLINE_FOLDER if (directory / ONLINE_FOLDER).is_dir() else directory
    checkpoint, learner, users, items = open_newest(folder)
    remote = _remote_store(config, learner)
    service = CS3Service(*_prepared(config, remote, learner, users, items), config.threads)
    # The collector would walk through all identifiers again and again, at some request's expense.
    gc.collect()
    gc.freeze()
    metrics = Metrics()
    service.follow(metrics)
    follower = _Follower(folder, checkpoint, partial(_publish, config, remote, service))
    if config.refresh_seconds:
        follower.start(config.refresh_seconds)

    def close() -> None:
        follower.stop()
        service.close()

    return application(service.routes(), metrics, health=service.health, threads=config.threads, close=close)


def open_newest(folder: Path) -> tuple[Path, OnlineLearner, GrowingVocabulary, GrowingVocabulary]:
    """The newest checkpoint of an online run, the learner as it was then, and its users and items.

    Raises:
        DataError: the folder is not that of an online run, or has no checkpoint yet, or a damaged one.
    """
    config, seed = read_model(folder)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise DataError(f"{folder} has no checkpoint yet; wait for the first one, or learn for longer.")
    catalogue = Catalogue.load(folder / CATALOGUE_FOLDER)
    learner = OnlineLearner(
        config, seed=seed, user_features=catalogue.user_features, item_features=catalogue.item_features
    )
    users, items = load_vocabularies(checkpoint)
    restore_checkpoint(checkpoint, learner)
    return checkpoint, learner, users, items


def write_cascade_vectors(
    learner: OnlineLearner, users: GrowingVocabulary, items: GrowingVocabulary, store: EmbeddingStore
) -> None:
    """Write the cascade vectors of all users and items into a store; again changes nothing.

    Raises:
        DataError: the store is for vectors of another width.
        StoreUnavailableError: the store does not answer.
    """
    cascade = learner.tables.cascade
    if cascade is None:
        return
    for side, vocabulary, means in (("user", users, cascade.users), ("item", items, cascade.items)):
        ids = vocabulary.ids.to_list()
        for start in range(0, len(ids), _IDS_AT_ONCE):
            part = ids[start : start + _IDS_AT_ONCE]
            vectors = means.read(torch.arange(start, start + len(part)))
            store.write("user" if side == "user" else "item", part, vectors.numpy())


def _prepared(
    config: ServeConfig,
    remote: FallbackStore | None,
    learner: OnlineLearner,
    users: GrowingVocabulary,
    items: GrowingVocabulary,
) -> tuple[Snapshot, FallbackStore | None]:
    """What a learner's answers are made from, and the store of its cascade vectors where requests read one."""
    cascade, store = learner.tables.cascade, remote
    if remote is not None and config.fill_store:
        write_cascade_vectors(learner, users, items, remote)
    snapshot = take_snapshot(learner, users, items, _index_maker(config))
    # A tower that reads histories takes too long to run for everybody before anybody has asked.
    if remote is None and config.encode_users and snapshot.histories is None:
        return encode_users(snapshot, learner), None
    if cascade is not None and remote is None:
        # One for each checkpoint: answers from the older one, which go on meanwhile, must not read newer vectors.
        store = FallbackStore(InProcessStore(cascade.users.width, config.ranker_version))
        write_cascade_vectors(learner, users, items, store)
    return snapshot, store


def _publish(
    config: ServeConfig,
    remote: FallbackStore | None,
    service: CS3Service,
    learner: OnlineLearner,
    users: GrowingVocabulary,
    items: GrowingVocabulary,
) -> None:
    service.publish(*_prepared(config, remote, learner, users, items))


def _remote_store(config: ServeConfig, learner: OnlineLearner) -> FallbackStore | None:
    """None where the towers read no cascade vectors, or read them from this process."""
    cascade = learner.tables.cascade
    if cascade is None or not config.store:
        return None
    redis = RedisStore(config.store, config.store_name, cascade.users.width, config.ranker_version, config.timeout)
    return FallbackStore(redis, retry_seconds=config.retry_seconds, remembered=config.remembered)


def _index_maker(config: ServeConfig) -> Callable[[int], ItemIndex]:
    name = config.index
    if name == "auto":
        name = "faiss" if importlib.util.find_spec("faiss") else "flat"
    makers: dict[str, Callable[[int], ItemIndex]] = {
        "flat": FlatIndex,
        "faiss": partial(FaissIndex, target_recall=config.recall),
        "usearch": partial(UsearchIndex, target_recall=config.recall),
    }
    return makers[name]


class _Follower:
    """Looks for newer checkpoints of a folder and hands the learner of each to ``publish``, in a thread of its own."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        publish: Callable[[OnlineLearner, GrowingVocabulary, GrowingVocabulary], None],
    ) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._publish = publish
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self, seconds: float) -> None:
        self._thread = Thread(target=self._follow, args=(seconds,), name="checkpoints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            if latest_checkpoint(self._folder) == self._checkpoint:
                continue
            try:
                checkpoint, learner, users, items = open_newest(self._folder)
                self._publish(learner, users, items)
            except (RecascadeError, OSError) as error:
                # The learner may have replaced the checkpoint while it was read; the next look finds the newer one.
                _log.warning("the newest checkpoint is not served yet: %s", error)
            except Exception:
                # If this thread ended, nobody would notice, and answers would come from an old checkpoint for ever.
                _log.exception("the newest checkpoint could not be prepared; the next look tries again")
            else:
                self._checkpoint = checkpoint
                _log.info("serving %s", checkpoint)
