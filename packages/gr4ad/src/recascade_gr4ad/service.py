"""Ads for users within a limit of time: from the cache, from a search, or, when too many ask at once, popular ones."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any

import torch

from recascade.contracts.context import Context
from recascade.contracts.retriever import TopK
from recascade.serving.metrics import Metrics
from recascade_gr4ad.beam_serving import BeamController
from recascade_gr4ad.live_index import IndexSnapshot, LiveIndex
from recascade_gr4ad.result_cache import CachedList, ResultCache
from recascade_gr4ad.run_folder import ServedRun
from recascade_gr4ad.serve_config import ServeConfig

# Popular ads that are kept at hand, more than a page usually asks for.
_POPULAR = 1_000


@dataclass(frozen=True)
class Answer:
    """The best ads of one request.

    Attributes:
        items: identifiers, best first; fewer than asked for where there are fewer.
        scores: ``log p``, plus ``γ log E[eCPM]`` where the service orders by value; of popular ads their counts.
        origin: ``search``, ``cache``, ``popular`` (nothing is known of the user), or ``overload`` (popular ads, because
            too many requests came at once).
        beams: widths of the search; empty where there was none.
        version: of the index.
    """

    items: Sequence[str]
    scores: Sequence[float]
    origin: str
    beams: Sequence[int]
    version: int


@dataclass(frozen=True)
class PopularAds:
    """The most popular ads of an index version, best first."""

    version: int
    items: Sequence[str]
    scores: Sequence[float]


class GR4ADService:
    """Answers from one index snapshot at a time. Safe to use from threads.

    A request whose turn does not come within ``wait_seconds`` gets popular ads: under load every answer stays fast, and
    no queue grows.

    Args:
        run: what was trained.
        index: the ads.
        controller: how wide beams are.
        cache: lists given a moment ago.
        config: how to answer.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        run: ServedRun,
        index: LiveIndex,
        controller: BeamController,
        cache: ResultCache,
        config: ServeConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.index = index
        self.controller = controller
        self.cache = cache
        self._config = config
        self._clock = clock
        self._turns = BoundedSemaphore(config.concurrency)
        self._counting = Lock()
        self._overloads = 0
        self._popular = PopularAds(-1, [], [])

    def recommend(self, user: str, length: int, *, history: Sequence[str] | None = None, placement: str = "") -> Answer:
        """The best ads of a user.

        Args:
            user: identifier; one that the run has not seen has no history of its own.
            length: ads wanted.
            history: the user's ads, oldest first; None takes those of the log. Ads that nobody knows are left out. A
                request with its own history is neither answered from the cache nor kept there.
            placement: where the ads are shown; each has a list of its own in the cache.
        """
        widths = self.controller.arrive(self._clock())
        snapshot = self.index.snapshot
        if history is None:
            kept = self.cache.get(user, placement, length, self._clock(), snapshot.alive)
            if kept is not None:
                return Answer(kept.items, kept.scores, "cache", (), snapshot.version)
            numbers = self.run.histories.get(user) or []
        else:
            numbers = [snapshot.numbers[name] for name in history if name in snapshot.numbers]
        seen = [snapshot.names[number] for number in numbers] if self._config.exclude_seen else []
        origin = "search" if numbers else "popular"
        if numbers and not self._turns.acquire(timeout=self._config.wait_seconds):
            with self._counting:
                self._overloads += 1
            numbers, origin = [], "overload"
        if not numbers:
            items, scores = self._popular_ads(snapshot, length, seen)
            return Answer(items, scores, origin, (), snapshot.version)
        try:
            items, scores = self._search(snapshot, user, numbers, length, widths)
        finally:
            self._turns.release()
        if history is None:
            self.cache.put(user, placement, CachedList(items, scores), self._clock())
        return Answer(items, scores, origin, widths, snapshot.version)

    def health(self) -> dict[str, Any]:
        """What answers come from now, and whether what was learnt of values is real."""
        snapshot = self.index.snapshot
        return {
            "items": len(snapshot),
            "users": len(self.run.users),
            "index_version": snapshot.version,
            "values": self.run.source,
            "synthetic_values": self.run.synthetic,
        }

    def follow(self, metrics: Metrics) -> None:
        """Publish the size of the index, the beams, the cache's hits and the requests that were too many."""
        metrics.follow("gauge", "recascade_index_items", "Ads in the index.", lambda: len(self.index.snapshot))
        metrics.follow("gauge", "recascade_beam_scale", "Beams relative to full load.", lambda: self.controller.scale)
        metrics.follow("counter", "recascade_cache_hits", "Lists from the cache.", lambda: self.cache.hits)
        metrics.follow("counter", "recascade_cache_misses", "Lists not in the cache.", lambda: self.cache.misses)
        metrics.follow("counter", "recascade_overloads", "Requests that were too many.", lambda: self._overloads)

    @torch.inference_mode()
    def _search(
        self, snapshot: IndexSnapshot, user: str, numbers: Sequence[int], length: int, widths: tuple[int, ...]
    ) -> tuple[list[str], list[float]]:
        """Items and scores of a request with a history."""
        context = _context(self.run.users.get(user, -1), numbers)
        # Beams belong to the request: another one may have others at the same time.
        retriever = copy.copy(snapshot.retriever)
        retriever.widths = widths
        best = retriever.retrieve(context, length, exclude_seen=self._config.exclude_seen)
        return _named(best, snapshot)

    def _popular_ads(self, snapshot: IndexSnapshot, length: int, seen: Sequence[str]) -> tuple[list[str], list[float]]:
        """The same for everyone, but for what this request has seen; found once per version of the index, since this
        is also the answer where there is no time."""
        wanted, popular = length + len(seen), self._popular
        if popular.version != snapshot.version or len(popular.items) < min(wanted, len(snapshot)):
            best = snapshot.retriever.retrieve(_context(-1, []), max(wanted, _POPULAR))
            popular = self._popular = PopularAds(snapshot.version, *_named(best, snapshot))
        known = set(seen)
        chosen = [place for place, name in enumerate(popular.items[:wanted]) if name not in known][:length]
        return [popular.items[place] for place in chosen], [popular.scores[place] for place in chosen]


def _context(user: int, numbers: Sequence[int]) -> Context:
    items = torch.tensor(numbers, dtype=torch.int64)
    return Context(torch.tensor([user]), items, torch.zeros_like(items), torch.tensor([0, len(items)]))


def _named(best: TopK, snapshot: IndexSnapshot) -> tuple[list[str], list[float]]:
    places = [item for item in best.items[0].tolist() if item >= 0]
    return [snapshot.names[item] for item in places], best.scores[0, : len(places)].tolist()
