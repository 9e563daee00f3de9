"""Top items for users, from the newest snapshot and the store of its cascade vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recascade.errors import ConfigurationError
from recascade.serving.embedding_store import EmbeddingStore
from recascade.serving.fallback_store import FallbackStore
from recascade.serving.http import Route
from recascade.serving.metrics import Metrics
from recascade.serving.parameters import check_names, text, texts, whole_number
from recascade_cs3.snapshot import Snapshot

MOST_ITEMS = 1000
MOST_USERS = 256
USUAL_ITEMS = 10


@dataclass(frozen=True)
class Recommendation:
    """The best items of one user.

    Attributes:
        user: identifier.
        known: whether the snapshot has seen this user; otherwise the towers' unknown user was served.
        items: identifiers, best first; fewer than asked for where there are fewer.
        scores: inner products of the user's and the items' vectors.
    """

    user: str
    known: bool
    items: list[str]
    scores: list[float]

    def content(self) -> dict[str, Any]:
        """For JSON."""
        return {"user": self.user, "known": self.known, "items": self.items, "scores": self.scores}


class CS3Service:
    """Answers from one snapshot at a time, which may be replaced under load: an answer never mixes two.

    A remote store, which others write to, is the exception: its vectors are those of the moment.

    Args:
        snapshot: to begin with.
        store: of its cascade vectors; None where requests read none (no CMS, or users encoded ahead).
        threads: answers that may wait for a remote store at a time.

    Raises:
        ConfigurationError: the towers read cascade vectors and there is no store, or one of another width.
    """

    def __init__(self, snapshot: Snapshot, store: FallbackStore | None = None, threads: int = 4) -> None:
        _check(snapshot, store)
        # One attribute for both, so that an answer reads both of the same moment.
        self._published = snapshot, store
        remote = store is not None and store.remote
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="store") if remote else None

    @property
    def snapshot(self) -> Snapshot:
        """What answers are made from now."""
        return self._published[0]

    @property
    def store(self) -> FallbackStore | None:
        """Where answers find cascade vectors now."""
        return self._published[1]

    def publish(self, snapshot: Snapshot, store: FallbackStore | None = None) -> None:
        """Answer from another snapshot from now on; answers under way finish with the one they began with.

        Args:
            snapshot: to answer from.
            store: of its cascade vectors; None where requests read none (no CMS, or users encoded ahead).

        Raises:
            ConfigurationError: the store has another width than these towers read; the old snapshot stays.
        """
        _check(snapshot, store)
        self._published = snapshot, store

    def recommend(self, users: Sequence[str], k: int) -> tuple[list[Recommendation], dict[str, str]]:
        """The k best items of each user, and the versions that they come from.

        A user whom nobody has seen gets the unknown user's row and zeros for what the tables hold.
        """
        snapshot, store = self._published
        if store is None:
            rows, cascade = snapshot.rows(users), None
        elif self._readers is None:
            rows, cascade = snapshot.rows(users), _read(store, users)
        else:
            # The store answers while this process looks up everything else.
            answer = self._readers.submit(_read, store, users)
            rows = snapshot.rows(users)
            cascade = answer.result()
        found = snapshot.index.search(snapshot.user_vectors(rows, cascade), k)
        names = snapshot.items
        recommendations = [
            Recommendation(user, row >= 0, [names[item] for item in items if item >= 0], scores[: _count(items)])
            for user, row, items, scores in zip(
                users, rows.tolist(), found.items.tolist(), found.scores.tolist(), strict=True
            )
        ]
        return recommendations, snapshot.versions

    def routes(self) -> list[Route]:
        """``GET /recommend?user=…&k=…`` for one user, ``POST /recommend`` ``{"users": […], "k": …}`` for several."""
        return [Route("GET", "/recommend", self._answer_one), Route("POST", "/recommend", self._answer_many)]

    def health(self) -> dict[str, Any]:
        """What answers come from now."""
        snapshot, store = self._published
        reachable = {} if store is None else {"store": "answers" if store.available else "does not answer"}
        return {"users": len(snapshot.users), "items": len(snapshot.index), "versions": snapshot.versions, **reachable}

    def follow(self, metrics: Metrics) -> None:
        """Publish versions, the size of the index, and reads that had to do without the store."""
        metrics.follow_facts("recascade_versions", "What answers come from.", lambda: self.snapshot.versions)
        metrics.follow("gauge", "recascade_index_items", "Items in the index.", lambda: len(self.snapshot.index))
        metrics.follow(
            "counter",
            "recascade_store_fallbacks",
            "Reads answered without the store.",
            lambda: 0 if self.store is None else self.store.fallbacks,
        )

    def close(self) -> None:
        """Wait for reads under way."""
        if self._readers is not None:
            self._readers.shutdown()

    def _answer_one(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("user", "k"))
        user, k = text(values, "user"), whole_number(values, "k", USUAL_ITEMS, 1, MOST_ITEMS)
        recommendations, versions = self.recommend([user], k)
        return {**recommendations[0].content(), "versions": versions}

    def _answer_many(self, values: Mapping[str, Any]) -> Any:
        check_names(values, ("users", "k"))
        users, k = texts(values, "users", MOST_USERS), whole_number(values, "k", USUAL_ITEMS, 1, MOST_ITEMS)
        recommendations, versions = self.recommend(users, k)
        return {"results": [each.content() for each in recommendations], "versions": versions}


def _read(store: EmbeddingStore, users: Sequence[str]) -> NDArray[np.float32]:
    return store.read("user", users).vectors


def _count(items: list[int]) -> int:
    return items.index(-1) if items and items[-1] < 0 else len(items)


def _check(snapshot: Snapshot, store: FallbackStore | None) -> None:
    if snapshot.cascade_width and store is None:
        raise ConfigurationError("The towers read cascade vectors (CMS); give the service a store of them.")
    if store is not None and store.width != snapshot.cascade_width:
        raise ConfigurationError(
            f"The store holds vectors of {store.width} numbers and the user tower reads {snapshot.cascade_width}; the "
            "ranker's hidden width (model.ranker.width) has changed, so use another store."
        )
